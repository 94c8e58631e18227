#include "quell/engine/executor.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>

#include "quell/base/error.h"
#include "quell/engine/lowered_op.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

/// A node as its op sees it.
class Call final : public OpCall {
 public:
  /// `storage`: of operands that are computed where they are read.
  Call(const Executor& executor, const Node& node, std::vector<Tensor>& storage)
      : executor_(executor), node_(node), storage_(storage) {
    storage_.clear();
    storage_.resize(node.in.size());
  }
  const Node& node() const override { return node_; }
  ExecContext& ctx() const override { return executor_.ctx(); }
  TensorView in(std::size_t i) override {
    // An op may ask twice: what it was shown first must stay where it is.
    if (storage_[i].defined()) return storage_[i];
    return executor_.read(node_, i, storage_[i]);
  }
  const Tensor& weight() const override {
    const PackedTable* table = executor_.packed_table(node_);
    if (!table) return executor_.weight(node_);
    if (!whole_table_.defined()) whole_table_ = table->dequantize();
    return whole_table_;
  }
  Tensor look_up(std::span<const std::int32_t> ids, std::string_view what) const override {
    const PackedTable* table = executor_.packed_table(node_);
    return table ? table->look_up(ids, what) : OpCall::look_up(ids, what);
  }
  const Tensor& bias() const override { return executor_.bias(node_); }
  const Tensor& vector(std::size_t i) const override { return executor_.vector(node_, i); }
  RowSpace rows(std::size_t i) const override {
    return executor_.graph().value(node_.in[i]).type.rows;
  }
  const TokenBatch& tokens() const override { return executor_.tokens(node_.place.stack); }
  const TokenBatch& first_tokens() const override { return executor_.tokens(0); }

 private:
  const Executor& executor_;
  const Node& node_;
  std::vector<Tensor>& storage_;  ///< by operand
  mutable Tensor whole_table_;    ///< of ops that read all rows
};

}  // namespace

const Tensor Executor::kNotThere;

TokenBatch decoder_batch(const ModelSpec& spec, const TokenBatch& batch) {
  TokenBatch out;
  out.batch = batch.batch;
  if (spec.num_queries > 0) {
    out.length = spec.num_queries;
    out.ids.assign(static_cast<std::size_t>(out.rows()), 0);
  } else if (batch.decoder_length > 0) {
    out.length = batch.decoder_length;
    out.ids = batch.decoder_ids;
    out.mask = batch.decoder_mask;
  } else {
    out.length = batch.length;
    for (std::size_t i = 0; i < batch.ids.size(); ++i)
      out.ids.push_back(i % static_cast<std::size_t>(batch.length) == 0
                            ? spec.decoder_start_token_id
                            : batch.ids[i - 1]);
  }
  if (out.mask.empty()) out.mask.assign(out.ids.size(), 1);
  out.type_ids.assign(out.ids.size(), 0);
  return out;
}

std::int64_t code_stride(const ValueType& type) {
  // Split channels give tokens more columns than their type says.
  const bool is_pixel = type.rows.kind == RowSpace::Kind::kImage;
  return is_pixel ? kernels::round_up(type.columns, 4) : 0;
}

Executor::Executor(const Model& model, const OpTable& ops, const Quantization& quantization,
                   const TokenBatch& batch, ExecContext& ctx, const Graph* lowered,
                   const CachedPass* cached)
    : model_(model),
      graph_(lowered ? *lowered : model.graph),
      ops_(ops),
      quantization_(quantization),
      batch_(batch),
      ctx_(ctx),
      cached_(cached),
      values_(static_cast<std::size_t>(graph_.num_values())),
      codes_(values_.size()) {
  require(batch.length > 0 && batch.batch > 0, ErrorCode::kInvalidInput, "empty batch");
  require(model.reads_images() == !batch.pixels.empty(), ErrorCode::kInvalidInput,
          model.spec.model_type,
          model.reads_images() ? " reads images, not tokens" : " reads tokens, not images");
  if (model.graph.is_encoder_decoder()) decoder_ = decoder_batch(model.spec, batch);
  std::int64_t longest = std::max(batch.length, decoder_.length);
  for (std::int64_t b = 0; b < batch.batch && cached; ++b)
    longest = std::max(longest, batch.row_count(b) + batch.past_of(b));
  require(longest <= model.spec.max_position_embeddings, ErrorCode::kInvalidInput, "a sequence of ",
          longest, " tokens is longer than the model's ", model.spec.max_position_embeddings,
          " positions; shorten it (--max-seq-length; --shape of bench)");
}

void Executor::run_until(NodeId end) {
  for (const NodeId n : graph_.order()) {
    if (n == end) return;
    run(n);
  }
}

void Executor::run(NodeId n) {
  const Node& node = graph_.node(n);
  if (static_cast<std::size_t>(node.out) >= values_.size()) grow();
  if (!node.op->view) {
    const auto start = std::chrono::steady_clock::now();
    const LoweredOp* lowered = node.op->lowered;
    if (lowered)
      lowered->run(*this, n);
    else
      compute(n);

    if (ctx_.operator_times) {
      const std::string name =
          lowered ? lowered->describe(node) : std::string(node.op->name) + " in f32";
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      (*ctx_.operator_times)[name] += taken.count();
    }
  }

  model_.drop_pages(n);
  if (!keep_values) drop_dead(n);
}

/// Values that nobody reads behind this node.
void Executor::drop_dead(NodeId n) {
  for (const ValueId v : graph_.node(n).in) {
    if (v == kNoValue || graph_.is_weight(v)) continue;
    const ValueId held = concrete(graph_, v);
    if (graph_.last_use(held) != n) continue;
    values_[static_cast<std::size_t>(held)] = Tensor();
    codes_[static_cast<std::size_t>(held)] = QuantizedRows();
  }
}

void Executor::spill() {
  constexpr std::int64_t kSmall = 4096;  // elements; not worth a file's pages
  for (Tensor& t : values_)
    if (model_.values_in_scratch && t.numel() > kSmall) t.spill(model_.scratch);
}

namespace {

TensorView view_of_ids(const std::vector<std::int32_t>& ids) {
  return {ids.data(), DType::kI32, {static_cast<std::int64_t>(ids.size()), 1}};
}

}  // namespace

TensorView Executor::operand(ValueId v, Tensor& storage) const {
  const InputKind input = graph_.value(v).input;
  if (input == InputKind::kTokenIds) return view_of_ids(batch_of(v).ids);
  if (input == InputKind::kTokenTypeIds) return view_of_ids(batch_of(v).type_ids);
  if (input == InputKind::kPixels)
    return {batch_.pixels.data(), DType::kF32, {static_cast<std::int64_t>(batch_.pixels.size())}};

  if (graph_.is_weight(v)) {
    const PackedTable* table = packed_table(v);
    if (!table) return matrix(v);
    storage = table->dequantize();
    return storage;
  }

  const NodeId producer = graph_.producer(v);
  const bool is_view = producer != kNoNode && graph_.node(producer).op->view;
  const bool in_codes_alone = !is_view && !value(v).defined();
  const bool off = is_view && graph_.node(producer).is(op_quantize) && !input_quant(v);
  if (off) return operand(graph_.node(producer).in[0], storage);
  if (!is_view && !in_codes_alone) return value(v);
  storage = seen(v);
  return storage;
}

TensorView Executor::read(const Node& node, std::size_t i, Tensor& storage) const {
  return operand(node.in[i], storage);
}

const Tensor& Executor::weight(const Node& node) const {
  const ValueId v = graph_.weight_operand(node);
  return v == kNoValue ? model_.param(node.param).weight : matrix(v);
}

const Tensor& Executor::matrix(ValueId v) const {
  return model_.param(graph_.value(v).param).weight;
}

const PackedTable* Executor::packed_table(const Node& node) const {
  const ValueId v = graph_.weight_operand(node);
  return v == kNoValue ? nullptr : packed_table(v);
}

/// Tables are read behind their quantizers here; linears have operators of their own for that.
const PackedTable* Executor::packed_table(ValueId v) const {
  const NodeId quantizer = graph_.producer(v);
  if (quantizer == kNoNode || !quantization_.on || quantization_.float_tables) return nullptr;

  const ParamId readers = weight_quantizer_of(graph_.node(quantizer)).readers;
  const PackedTable& table = model_.param(readers).packed_table;
  return table.defined() ? &table : nullptr;
}

const Tensor& Executor::bias(const Node& node) const { return model_.param(node.param).bias; }

const Tensor& Executor::vector(const Node& node, std::size_t i) const {
  return model_.param(node.param).vectors[i];
}

Tensor Executor::seen(ValueId v) const {
  const Graph& graph = graph_;
  const NodeId producer = graph.producer(v);
  if (producer == kNoNode || !graph.node(producer).op->view) {
    if (value(v).defined() || !has_codes(v)) return value(v).clone();
    return dequantize_rows(codes_[static_cast<std::size_t>(v)], ctx_);
  }

  // Codes are what the quantizer between would make of the value.
  const Node& node = graph.node(producer);
  Tensor out = seen(node.in[0]);
  if (node.is(op_restore)) {
    const ChannelAffine& affine = affine_of(node);
    affine_columns(out, affine.scale, affine.shift, out.span(), ctx_);
    return out;
  }
  const ActivationQuant* quant = input_quant(v);
  const bool is_f32 = value(v).defined();
  if (quant && is_f32)
    fake_quantize_activations(out, *quant, quantization_.rounding, out.span(), ctx_);
  return out;
}

const QuantizedRows& Executor::codes(ValueId v, const ActivationQuant& quant, bool with_sums) {
  QuantizedRows& rows = codes_[static_cast<std::size_t>(concrete(graph_, v))];
  if (!rows.defined() || (with_sums && rows.sum.empty() && value(v).defined()))
    rows = quantize_rows(value(v), quant, with_sums, ctx_, code_stride(v));
  if (with_sums && rows.sum.empty())
    for (std::int64_t i = 0; i < rows.rows; ++i)
      rows.sum.push_back(std::accumulate(rows.row(i), rows.row(i) + rows.columns, std::int32_t{0}));
  return rows;
}

kernels::ResidualArgs Executor::residual(ValueId v, Tensor& storage) {
  const Graph& graph = graph_;
  const ChannelAffine* affine = nullptr;
  ValueId below = v;
  if (graph.is_from(v, op_restore)) {
    affine = &affine_of(graph.producer_of(v));
    below = graph.producer_of(v).in[0];
  }
  const ActivationQuant* quant = graph.is_from(below, op_quantize) ? input_quant(below) : nullptr;

  kernels::ResidualArgs out;
  if (quant && is_static_per_tensor(*quant)) {
    const QuantizedRows& rows = codes(below, *quant, false);
    out.codes = rows.row(0);
    out.ld = rows.stride;
    out.zero = static_cast<float>(quant->qparams.zero_point + code_shift(quant->spec));
    out.scale = quant->qparams.scale;
  } else if (quant) {
    storage = seen(v);
    out.f32 = storage.f32().data();
    out.ld = storage.cols();
    return out;
  } else {
    out.f32 = value(v).f32().data();
    out.ld = value(v).cols();
  }
  if (affine) {
    out.column_scale = affine->scale.f32().data();
    if (affine->shift.defined()) out.column_shift = affine->shift.f32().data();
  }
  return out;
}

AttentionCall Executor::attention_call(const Node& attention) {
  Call call(*this, attention, storage_);
  AttentionCall out = quell::attention_call(call);
  const AttentionSpec& spec = out.spec;
  if (spec.rotary_inv_freq.empty()) return out;

  RotaryTable& table = rotary_[{spec.rotary_inv_freq, spec.rotary_amplitude}];
  if (!table.cosine.defined())
    table = make_rotary_table(out.positions, spec.rotary_inv_freq, spec.rotary_amplitude, ctx_);
  out.rotary = &table;
  return out;
}

namespace {

template <typename Map>
const typename Map::mapped_type* find_in(const Map& map, int key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}

}  // namespace

const ActivationQuant* Executor::input_quant(ValueId v) const {
  if (!quantization_.on) return nullptr;
  const ActivationQuantizers* overlay = quantization_.overlay;
  if (overlay) return find_in(overlay->inputs, base_of(graph_, v));
  return input_quant_of(graph_, v);
}

const AttentionQuant* Executor::attention_quant(NodeId id, const Node& attention) const {
  if (!quantization_.on) return nullptr;
  const ActivationQuantizers* overlay = quantization_.overlay;
  if (overlay) return find_in(overlay->attention, id);
  return attention_quant_of(attention);
}

AttentionOperands Executor::attention_operands(const Node& attention) const {
  std::array<Tensor, 3> made;
  AttentionOperands operands(read(attention, kQueryOperand, made[kQueryOperand]),
                             read(attention, kKeyOperand, made[kKeyOperand]),
                             read(attention, kValueOperand, made[kValueOperand]));
  for (std::size_t i = 0; i < made.size(); ++i)
    if (made[i].defined()) operands.give(i, std::move(made[i]));
  return operands;
}

void Executor::write_cache(NodeId id, const Node& attention, const TensorView& k,
                           const TensorView& v) {
  const AttentionQuant* quant = attention_quant(id, attention);
  for (std::int64_t b = 0; b < batch_.batch; ++b)
    cached_->cache->write(id, cached_->slots[static_cast<std::size_t>(b)], k, v,
                          batch_.row_begin(b), batch_.row_count(b), quant, ctx_);
}

AttentionRun Executor::attention_run(NodeId id, const Node& attention) const {
  AttentionRun run{.quant = attention_quant(id, attention), .rounding = quantization_.rounding};
  if (on_attention) run.tap = [this, id](const StageView& stage) { on_attention(id, stage); };
  return run;
}

Tensor Executor::attend_cached(NodeId id, const Node& attention) {
  const AttentionCall call = attention_call(attention);
  const AttentionRun run = attention_run(id, attention);
  AttentionOperands operands = attention_operands(attention);
  prepare_operands(call, run, operands, ctx_);

  write_cache(id, attention, operands[kKeyOperand], operands[kValueOperand]);
  Tensor out = Tensor::uninitialized(DType::kF32, operands[kQueryOperand].shape());
  for (std::int64_t b = 0; b < batch_.batch; ++b)
    cached_->cache->attend(id, cached_->slots[static_cast<std::size_t>(b)], call, run, operands,
                           batch_.row_begin(b), batch_.row_count(b), out.span(), ctx_);
  return out;
}

void Executor::keep_last_rows(ValueId v) {
  const TokenBatch& batch = batch_of(v);
  std::vector<std::int64_t> last;
  for (std::int64_t b = 0; b < batch.batch; ++b)
    last.push_back(batch.row_begin(b) + batch.row_count(b) - 1);

  // A norm that nobody reads in f32 has left codes alone.
  const Tensor& x = value(v);
  QuantizedRows& codes = codes_[static_cast<std::size_t>(concrete(graph_, v))];
  if (!x.defined()) {
    codes = take_rows(codes, last);
    return;
  }
  Tensor out = Tensor::uninitialized(DType::kF32, {batch.batch, x.cols()});
  for (std::int64_t b = 0; b < batch.batch; ++b)
    std::copy_n(x.row(last[static_cast<std::size_t>(b)]), x.cols(), out.row(b));
  set(v, std::move(out));
  codes = QuantizedRows();
}

Tensor Executor::run_attention(NodeId n) {
  const Node& node = graph_.node(n);
  if (continues()) return attend_cached(n, node);
  const AttentionCall call = attention_call(node);
  const AttentionRun run = attention_run(n, node);
  AttentionOperands operands = attention_operands(node);
  prepare_operands(call, run, operands, ctx_);

  if (cached_) write_cache(n, node, operands[kKeyOperand], operands[kValueOperand]);
  return attend(call, run, operands, ctx_);
}

void Executor::compute(NodeId n) {
  const Node& node = graph_.node(n);
  const auto at = static_cast<std::size_t>(n);
  const LinearOp* linear = at < ops_.size() ? ops_[at].get() : nullptr;
  Tensor out;
  if (linear) {
    // The operator quantizes what it reads itself.
    const Tensor& x = value(node.in[0]);
    const std::int64_t columns = model_.weight_of(model_.param_of(n)).rows();
    out = Tensor::uninitialized(DType::kF32, {linear->out_rows(x.rows()), columns});
    linear->forward(x, out.span(), ctx_);
  } else if (node.is(op_attention)) {
    out = run_attention(n);
  } else {
    Call call(*this, node, storage_);
    out = node.op->reference(call);
    storage_.clear();
  }
  set(node.out, std::move(out));
}

}  // namespace quell
