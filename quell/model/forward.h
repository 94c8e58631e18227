// The only forward pass: it walks a model's nodes with whatever linear operators it is given.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "quell/model/model.h"
#include "quell/ops/linear.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// Position ids of every token of a batch, by the model's rule.
std::vector<std::int32_t> position_ids(const ModelSpec& spec, const TokenBatch& batch);
/// What the decoder of an encoder-decoder model reads, as a batch of its own. Where `batch` does not say, it is the input shifted
/// right.
TokenBatch decoder_batch(const ModelSpec& spec, const TokenBatch& batch);

/// What a forward pass leaves behind. `values` holds the model's outputs by name: "logits", "last_hidden_state" [B*N, H],
/// "pooler_output" [B, H], and "embedding" [B, H] for models with pooling.
struct ForwardOutputs {
  bool want_hidden_states = false;
  std::map<std::string, Tensor> values;
  std::vector<std::vector<Tensor>> hidden_states;  ///< by stack
};

/// Anything that maps tokens to outputs: float, simulated and integer engines alike.
class ForwardModel {
 public:
  virtual ~ForwardModel() = default;
  virtual void forward(const TokenBatch& batch, ForwardOutputs& outputs, ExecContext& ctx) const = 0;
  virtual const Model& model() const = 0;
};

/// Linear operators by node; null for nodes that are no linears.
using OpTable = std::vector<std::unique_ptr<LinearOp>>;

enum class AttentionPoint { kQuery, kKey, kValue, kProbs };

/// One batch on its way through the nodes of a model. Values are kept until their last use, or as long as `keep_values`.
class Executor {
 public:
  /// `quantized`: apply the model's quantizers inside attention and on residual branches.
  Executor(const Model& model, const OpTable& ops, bool quantized, const TokenBatch& batch, ExecContext& ctx);

  void run(NodeRange range);
  void set(ValueId value, Tensor tensor) { values_[static_cast<std::size_t>(value)] = std::move(tensor); }
  /// As linears read it (migrated).
  const Tensor& value(ValueId v) const { return values_[static_cast<std::size_t>(v)]; }
  /// With its original meaning: fake-quantized where residuals are, then restored.
  Tensor restored(ValueId v) const;
  Tensor take(ValueId v) { return std::move(values_[static_cast<std::size_t>(v)]); }
  /// The tokens that the rows of `v` belong to: the decoder's for values of a decoder.
  const TokenBatch& batch_of(ValueId v) const;

  bool keep_values = false;
  /// Sees the operands of attention before they are quantized: q, k, v as tensors, of the probabilities their range.
  std::function<void(int node, AttentionPoint point, const TensorView& operand, Range probs)> on_attention;

 private:
  void run_node(int node);
  void run_attention(int node, Tensor& out);
  void run_selection(int node, Tensor& out) const;
  void run_simple(int node, const TensorView& x, Tensor& out) const;
  TensorView operand(ValueId v, Tensor& storage) const;
  void embed(int node, Tensor& out) const;
  bool in_decoder(int node) const { return model_.spec.stacks[static_cast<std::size_t>(node_at(node).stack)].decoder; }
  const TokenBatch& batch_at(int node) const { return in_decoder(node) ? decoder_ : batch_; }
  const Node& node_at(int node) const { return model_.graph.nodes[static_cast<std::size_t>(node)]; }

  const Model& model_;
  const OpTable& ops_;
  bool quantized_;
  const TokenBatch& batch_;
  TokenBatch decoder_;  ///< empty where the model has no decoder stack
  ExecContext& ctx_;
  std::vector<Tensor> values_;
  std::vector<std::int32_t> positions_, decoder_positions_;
};

/// Runs a whole model. Throws Error(kNumeric) when an output is not finite.
void run_forward(const Model& model, const OpTable& ops, bool quantized, const TokenBatch& batch, ForwardOutputs& outputs,
                 ExecContext& ctx);

/// Float operators for every linear, on the (migrated) float weights.
OpTable make_float_ops(const Model& model);
/// Simulated operators for quantized linears, float ones for the rest. `exact`: sums in integers.
OpTable make_simulated_ops(const Model& model, bool exact, Isa isa);
/// The simulated operator of one linear, or the float one when it is not quantized.
std::unique_ptr<LinearOp> make_simulated_op(const Model& model, int node, bool exact, Isa isa);

/// The input of this linear depends on weights alone (DeBERTa's relative embeddings), so that it has no quantizer of its own.
bool reads_constant(const Model& model, int node);
/// A float operator on the dequantized weights of a quantized linear.
std::unique_ptr<LinearOp> make_dequantized_op(const Model& model, int node);

/// Engines that keep a reference to `model`.
std::unique_ptr<ForwardModel> make_float_model(const Model& model);
std::unique_ptr<ForwardModel> make_simulated_model(const Model& model, bool exact, Isa isa);
std::unique_ptr<ForwardModel> make_step_model(const Model& model, OpTable ops, bool quantized);

/// Pooled sentence embeddings [B, H] from last hidden states [B*N, H]; L2-normalised on request.
Tensor pool(PoolingKind kind, bool normalize, const TensorView& hidden, const TokenBatch& batch);

}  // namespace quell
