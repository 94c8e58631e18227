// The only interpreter of graphs: it walks a model's nodes with whatever linear operators it is
// given.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "quell/engine/kv_cache.h"
#include "quell/graph/attention_run.h"
#include "quell/graph/forms.h"
#include "quell/model/model.h"
#include "quell/ops/linear.h"
#include "quell/quant/quantized_linear.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// What the decoder of an encoder-decoder model reads, as a batch of its own. Where `batch` does
/// not say, it is the input shifted right.
TokenBatch decoder_batch(const ModelSpec& spec, const TokenBatch& batch);

/// How an engine quantizes activations.
struct Quantization {
  /// Off, or on with the model's own quantizers.
  Quantization(bool is_on) : on(is_on) {}  // NOLINT: on or off is what most callers say
  Quantization(Rounding how) : on(true), rounding(how) {}  // NOLINT

  bool on = false;
  /// Of simulated quantizers: integer engines multiply with the reciprocal, calibration divides.
  Rounding rounding = Rounding::kReciprocal;
  /// In the place of the model's own, which stay as they are; null: those.
  const ActivationQuantizers* overlay = nullptr;
  bool float_tables = false;  ///< embeddings are read in float all the same
};

/// Bytes from one row of codes to the next, of a value of that type: pixels lie close; 0: as
/// products of matrices want them (make_quantized_rows).
std::int64_t code_stride(const ValueType& type);

/// Linear operators by node; null for nodes that are no linears.
using OpTable = std::vector<std::unique_ptr<LinearOp>>;

/// One batch on its way through the nodes of a model. Values are kept until their last use, or as
/// long as `keep_values`. A value is f32 (ids: i32), codes, or both.
class Executor {
 public:
  /// `quantization`: of what lies inside attention, on residual branches, and of tables; linears
  /// are what `ops` makes of them. `lowered`: the model's graph after rewrites, null for itself.
  /// Borrows everything.
  Executor(const Model& model, const OpTable& ops, const Quantization& quantization,
           const TokenBatch& batch, ExecContext& ctx, const Graph* lowered = nullptr,
           const CachedPass* cached = nullptr);

  /// One node. Views are passed over.
  void run(NodeId node);
  /// All nodes, as they are executed, up to `end` and without it; kNoNode: to the last one.
  void run_until(NodeId end = kNoNode);
  void set(ValueId v, Tensor tensor) { slot(v) = std::move(tensor); }
  /// What its node has computed; of a view, what it is a view of.
  const Tensor& value(ValueId v) const {
    const auto at = static_cast<std::size_t>(concrete(graph_, v));
    return at < values_.size() ? values_[at] : kNotThere;
  }
  /// As linears read a value in whatever form, without a quantizer.
  const Tensor& migrated_value(ValueId v) const { return value(migrated(graph_, v)); }
  /// A copy as readers of `v` see it.
  Tensor seen(ValueId v) const;
  Tensor take(ValueId v) { return std::move(slot(v)); }
  /// The batch that binds the row space of `v`: the decoder's for tokens of a decoder.
  const TokenBatch& batch_of(ValueId v) const { return tokens(graph_.value(v).type.rows.stack); }
  /// The tokens of a stack.
  const TokenBatch& tokens(int stack) const {
    return graph_.stacks[static_cast<std::size_t>(stack)].decoder && decoder_.length > 0 ? decoder_
                                                                                         : batch_;
  }
  const Model& model() const { return model_; }
  /// The one that is run.
  const Graph& graph() const { return graph_; }
  /// Those that this run applies, of any form of a value: null where there is none, or quantization
  /// is off.
  const ActivationQuant* input_quant(ValueId v) const;
  const AttentionQuant* attention_quant(NodeId id, const Node& attention) const;
  ExecContext& ctx() const { return ctx_; }

  // For lowered ops.
  void set_codes(ValueId v, QuantizedRows rows) {
    codes_[static_cast<std::size_t>(v)] = std::move(rows);
  }
  bool has_codes(ValueId v) const {
    const auto at = static_cast<std::size_t>(v);
    return at < codes_.size() && codes_[at].defined();
  }
  /// Codes of a value, made when first asked for and shared by all readers; one quantizer a value.
  const QuantizedRows& codes(ValueId v, const ActivationQuant& quant, bool with_sums);
  std::int64_t code_stride(ValueId v) const { return quell::code_stride(graph_.value(v).type); }
  /// A value as its readers see it, in `storage` where that is not the value itself. Inputs are
  /// those of the batch.
  TensorView operand(ValueId v, Tensor& storage) const;
  /// The same as an operand that kernels add while they write.
  kernels::ResidualArgs residual(ValueId v, Tensor& storage);
  /// Refers to values of this executor, and to `attention`.
  AttentionCall attention_call(const Node& attention);
  /// With the quantizers of this run, and its tap.
  AttentionRun attention_run(NodeId id, const Node& attention) const;
  /// As the attention reads them. Refers to values of this executor.
  AttentionOperands attention_operands(const Node& attention) const;
  const CachedPass* cached() const { return cached_; }
  /// Whether the batch continues sequences that a cache holds.
  bool continues() const { return cached_ && !batch_.past.empty() && batch_.past.front() > 0; }
  /// Keys and values of new sequences go to the cache as well.
  void write_cache(NodeId id, const Node& attention, const TensorView& k, const TensorView& v);
  /// Attention of a few new tokens to the cache.
  Tensor attend_cached(NodeId id, const Node& attention);
  /// Where the model keeps values in scratch: moves them there, and out of memory until they are
  /// read.
  void spill();
  /// Leaves the last row of each sequence of `v`.
  void keep_last_rows(ValueId v);
  /// Of the node's parameter, in float.
  const Tensor& weight(const Node& node) const;
  /// What the node reads in the place of its weight where tables are quantized; else null.
  const PackedTable* packed_table(const Node& node) const;
  const Tensor& bias(const Node& node) const;
  const Tensor& vector(const Node& node, std::size_t i) const;
  /// As its op reads operand `i`.
  TensorView read(const Node& node, std::size_t i, Tensor& storage) const;

  bool keep_values = false;
  /// Sees the stages of attentions that run in f32; where they read a cache, operands alone.
  std::function<void(NodeId node, const StageView& stage)> on_attention;

 private:
  /// Where a value lies, or will: the graph may have grown since this run began.
  Tensor& slot(ValueId v) {
    if (static_cast<std::size_t>(v) >= values_.size()) grow();
    return values_[static_cast<std::size_t>(v)];
  }
  void grow() {
    values_.resize(static_cast<std::size_t>(graph_.num_values()));
    codes_.resize(values_.size());
  }
  const Tensor& matrix(ValueId v) const;
  const PackedTable* packed_table(ValueId v) const;
  void compute(NodeId node);
  void drop_dead(NodeId node);
  Tensor run_attention(NodeId node);

  const Model& model_;
  const Graph& graph_;
  const OpTable& ops_;
  Quantization quantization_;
  const TokenBatch& batch_;
  TokenBatch decoder_;  ///< empty where the model has no decoder behind an encoder
  ExecContext& ctx_;
  const CachedPass* cached_;
  std::vector<Tensor> values_;
  std::vector<QuantizedRows> codes_;
  std::vector<Tensor> storage_;  ///< of the node that runs, what its operands refer to
  static const Tensor kNotThere;
  /// By frequencies and amplitude.
  std::map<std::pair<std::vector<float>, float>, RotaryTable> rotary_;
};

}  // namespace quell
