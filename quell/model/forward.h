// The only forward pass: it walks a model's nodes with whatever linear operators it is given.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "quell/model/attention_call.h"
#include "quell/model/kv_cache.h"
#include "quell/model/model.h"
#include "quell/ops/linear.h"
#include "quell/quant/quantized_linear.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// Position ids of every token of a batch, by the model's rule.
std::vector<std::int32_t> position_ids(const ModelSpec& spec, const TokenBatch& batch);
/// What the decoder of an encoder-decoder model reads, as a batch of its own. Where `batch` does
/// not say, it is the input shifted right.
TokenBatch decoder_batch(const ModelSpec& spec, const TokenBatch& batch);

/// What a forward pass leaves behind. `values` holds the model's outputs by name: "logits",
/// "last_hidden_state" [B*N, H], "pooler_output" [B, H], and "embedding" [B, D] for sentence
/// models.
struct ForwardOutputs {
  bool want_hidden_states = false;
  /// What follows the last block runs on the last token of each sequence only: [B, vocabulary]
  /// logits for generation.
  bool last_tokens_only = false;
  /// Nothing but the sentence embeddings: what follows the last hidden states, heads included, is
  /// left out.
  bool embedding_only = false;
  /// Appends the batch's tokens to a cache and, where `TokenBatch::past` is not 0, continues from
  /// it. All sequences of a batch are new, or none is. May be null.
  const CachedPass* cached = nullptr;
  std::map<std::string, Tensor> values;
  std::vector<std::vector<Tensor>> hidden_states;  ///< by stack
};

/// Anything that maps tokens to outputs: float, simulated and integer engines alike.
class ForwardModel {
 public:
  virtual ~ForwardModel() = default;
  virtual void forward(const TokenBatch& batch, ForwardOutputs& outputs,
                       ExecContext& ctx) const = 0;
  virtual const Model& model() const = 0;
};

/// Linear operators by node; null for nodes that are no linears.
using OpTable = std::vector<std::unique_ptr<LinearOp>>;

class Executor;

/// Computes one or several nodes in another way than the plain steps do: operators that read and
/// write codes, or fuse what follows them.
class NodeOp {
 public:
  virtual ~NodeOp() = default;
  virtual void run(Executor& executor, ExecContext& ctx) const = 0;
  /// One line for people.
  virtual std::string describe() const = 0;
};

/// Which nodes run otherwise. Made by lowering; empty tables mean plain steps.
struct FusionTable {
  std::vector<std::unique_ptr<NodeOp>> ops;  ///< by first node, null where the plain step runs
  std::vector<bool> covered;                 ///< nodes that an earlier one's operator has computed
  bool empty() const { return ops.empty(); }
};

enum class AttentionPoint { kQuery, kKey, kValue, kProbs };

/// One batch on its way through the nodes of a model. Values are kept until their last use, or as
/// long as `keep_values`. A value is f32, codes, or both.
class Executor {
 public:
  /// `quantized`: apply the model's quantizers inside attention and on residual branches. `fused`
  /// may be null.
  Executor(const Model& model, const OpTable& ops, bool quantized, const TokenBatch& batch,
           ExecContext& ctx, const FusionTable* fused = nullptr,
           const CachedPass* cached = nullptr);

  void run(NodeRange range);
  void set(ValueId value, Tensor tensor) {
    values_[static_cast<std::size_t>(value)] = std::move(tensor);
  }
  /// As linears read it (migrated).
  const Tensor& value(ValueId v) const { return values_[static_cast<std::size_t>(v)]; }
  /// With its original meaning: fake-quantized where residuals are, then restored.
  Tensor restored(ValueId v) const;
  Tensor take(ValueId v) { return std::move(values_[static_cast<std::size_t>(v)]); }
  /// The tokens that the rows of `v` belong to: the decoder's for values of a decoder.
  const TokenBatch& batch_of(ValueId v) const;

  // For NodeOps.
  /// What a node computed: divided where an explicit affine asks for it, then kept.
  void set_output(ValueId v, Tensor tensor);
  void set_codes(ValueId v, QuantizedRows rows) {
    codes_[static_cast<std::size_t>(v)] = std::move(rows);
  }
  bool has_codes(ValueId v) const { return codes_[static_cast<std::size_t>(v)].defined(); }
  /// Codes of a value, made when first asked for and shared by all readers; one quantizer a value.
  const QuantizedRows& codes(ValueId v, const ActivationQuant& quant, bool with_sums);
  /// A value as its readers other than linears see it, in `storage` where that is not the value
  /// itself.
  TensorView operand(ValueId v, Tensor& storage) const;
  /// The same as an operand that kernels add while they write.
  kernels::ResidualArgs residual(ValueId v, Tensor& storage);
  AttentionCall attention_call(int node);
  const CachedPass* cached() const { return cached_; }
  /// Whether the batch continues sequences that a cache holds.
  bool continues() const { return cached_ && !batch_.past.empty() && batch_.past.front() > 0; }
  /// Keys and values of new sequences go to the cache as well.
  void write_cache(int node, const TensorView& k, const TensorView& v);
  /// Attention of a few new tokens to the cache.
  void attend_cached(int node, Tensor& out);
  /// Where the model keeps values in scratch: moves them there, and out of memory until they are
  /// read.
  void spill();
  /// Leaves the last row of each sequence of `v`.
  void keep_last_rows(ValueId v);

  bool keep_values = false;
  /// Sees the operands of attention before they are quantized: q, k, v as tensors, of the
  /// probabilities their range.
  std::function<void(int node, AttentionPoint point, const TensorView& operand, Range probs)>
      on_attention;

 private:
  void run_node(int node);
  void run_attention(int node, Tensor& out);
  void run_selection(int node, Tensor& out) const;
  bool is_end(std::size_t at) const;
  bool is_last_candidate(const TokenBatch& batch, std::size_t at) const;
  void run_simple(int node, const TensorView& x, Tensor& out) const;
  void embed(int node, Tensor& out) const;
  bool in_decoder(int node) const {
    return model_.spec.stacks[static_cast<std::size_t>(node_at(node).stack)].decoder;
  }
  const TokenBatch& batch_at(int node) const { return in_decoder(node) ? decoder_ : batch_; }
  const Node& node_at(int node) const { return model_.graph.nodes[static_cast<std::size_t>(node)]; }

  const Model& model_;
  const OpTable& ops_;
  bool quantized_;
  const TokenBatch& batch_;
  TokenBatch decoder_;  ///< empty where the model has no decoder stack
  ExecContext& ctx_;
  const FusionTable* fused_;
  const CachedPass* cached_;
  std::vector<Tensor> values_;
  std::vector<QuantizedRows> codes_;
  std::vector<std::int32_t> positions_, decoder_positions_;
  std::map<std::pair<std::vector<float>, float>, RotaryTable>
      rotary_;  ///< by frequencies and amplitude
};

/// Runs a whole model. Throws Error(kNumeric) when an output is not finite.
void run_forward(const Model& model, const OpTable& ops, const FusionTable& fused, bool quantized,
                 const TokenBatch& batch, ForwardOutputs& outputs, ExecContext& ctx);

/// Float operators for every linear, on the (migrated) float weights.
OpTable make_float_ops(const Model& model);
/// Simulated operators for quantized linears, float ones for the rest. `exact`: sums in integers.
OpTable make_simulated_ops(const Model& model, bool exact, Isa isa);
/// The simulated operator of one linear, or the float one when it is not quantized.
std::unique_ptr<LinearOp> make_simulated_op(const Model& model, int node, bool exact, Isa isa);
/// The same, made anew for every call, so that it holds no copy of the weights and sees what
/// `model` has become. Keeps a reference.
std::unique_ptr<LinearOp> make_transient_op(const Model& model, int node, bool exact, Isa isa);

/// The input of this linear depends on weights alone (DeBERTa's relative embeddings), so that it
/// has no quantizer of its own.
bool reads_constant(const Model& model, int node);
/// A float operator on the dequantized weights of a quantized linear.
std::unique_ptr<LinearOp> make_dequantized_op(const Model& model, int node);

/// Engines that keep a reference to `model`.
std::unique_ptr<ForwardModel> make_float_model(const Model& model);
/// The float model with its linears' weights in bf16.
std::unique_ptr<ForwardModel> make_bf16_model(const Model& model);
std::unique_ptr<ForwardModel> make_simulated_model(const Model& model, bool exact, Isa isa);
std::unique_ptr<ForwardModel> make_step_model(const Model& model, OpTable ops, FusionTable fused,
                                              bool quantized);

/// Attention on codes in both products, where the model quantizes all of q, k, v and the
/// probabilities with static steps; else null. `exact`: plain loops instead of kernels, same bytes.
/// `output`: the quantizer of the codes to write, null for f32.
std::unique_ptr<NodeOp> make_integer_attention(const Model& model, int node, bool exact,
                                               const ActivationQuant* output);
/// Whether make_integer_attention reads this operand (0: q, 1: k, 2: v) as its producer's codes,
/// without rotating or scaling it first.
bool reads_codes_directly(const Model& model, int node, int operand);

/// Whether the model takes batches whose sequences lie one behind the other without padding: its
/// attention does not depend on the distance of rows.
bool takes_packed_batches(const ModelSpec& spec);

}  // namespace quell
