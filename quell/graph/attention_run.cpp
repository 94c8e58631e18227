#include "quell/graph/attention_run.h"

#include "quell/base/error.h"
#include "quell/graph/relative_positions.h"
#include "quell/quant/quantize.h"

namespace quell {

bool AttentionRun::scales_query(const AttentionSpec& spec) const {
  // What calibration taps is what quantizers will see.
  const bool as_quantizers_see_it = quant != nullptr || tap != nullptr;
  const bool first_in_scheme = spec.quantize_scaled_query && as_quantizers_see_it;
  // Models of f16 tensors keep the scores small enough for them.
  return first_in_scheme || arithmetic != DType::kF32;
}

bool reads_codes_directly(const AttentionSpec& spec, std::size_t operand) {
  // Query and key alike, though nothing would stand between the key and its codes in OPT.
  const bool unchanged = spec.rotary_inv_freq.empty() && !spec.quantize_scaled_query;
  return operand == kValueOperand || unchanged;
}

AttentionOperands::AttentionOperands(TensorView query, TensorView key, TensorView value)
    : views_{std::move(query), std::move(key), std::move(value)} {}

AttentionOperands::AttentionOperands(Tensor&& query, Tensor&& key, Tensor&& value)
    : views_{query.view(), key.view(), value.view()},
      owned_{std::move(query), std::move(key), std::move(value)} {}

Tensor& AttentionOperands::own(std::size_t operand) {
  if (!owned_[operand].defined()) give(operand, Tensor::copy_of(views_[operand]));
  return owned_[operand];
}

void AttentionOperands::give(std::size_t operand, Tensor&& x) {
  owned_[operand] = std::move(x);
  views_[operand] = owned_[operand].view();
}

namespace {

/// Rotates x by the positions of its tokens, or back.
void rotate_each(const AttentionCall& call, std::initializer_list<Tensor*> operands, bool back,
                 ExecContext& ctx) {
  const AttentionSpec& spec = call.spec;
  RotaryTable made;
  if (!call.rotary || back)
    made = make_rotary_table(call.positions, spec.rotary_inv_freq, spec.rotary_amplitude, ctx);
  if (back)  // the transposed rotation turns the other way
    for (float& sine : made.sine.f32()) sine = -sine;

  const RotaryTable& table = made.cosine.defined() ? made : *call.rotary;
  for (Tensor* x : operands) rotate(x->span(), spec.head_dim, table, ctx);
}

void multiply_by(float factor, Tensor& x) {
  for (float& element : x.f32()) element *= factor;
}

}  // namespace

void transform_operands(const AttentionCall& call, const AttentionRun& run,
                        AttentionOperands& operands, ExecContext& ctx) {
  const AttentionSpec& spec = call.spec;
  const bool rounds = run.arithmetic != DType::kF32;

  if (!spec.rotary_inv_freq.empty())
    rotate_each(call, {&operands.own(kQueryOperand), &operands.own(kKeyOperand)}, false, ctx);
  if (rounds)
    for (const AttentionOperand i : {kQueryOperand, kKeyOperand})
      round_values(run.arithmetic, operands.own(i).span(), ctx);

  operands.scale = spec.scale;
  if (!run.scales_query(spec)) return;
  Tensor& query = operands.own(kQueryOperand);
  multiply_by(spec.scale, query);
  if (rounds) round_values(run.arithmetic, query.span(), ctx);
  operands.scale = 1.0F;
}

void quantize_operands(const AttentionRun& run, AttentionOperands& operands, ExecContext& ctx) {
  constexpr std::array kStages = {AttentionStage::kQuery, AttentionStage::kKey,
                                  AttentionStage::kValue};
  for (std::size_t i = 0; i < kStages.size(); ++i) {
    if (run.tap) run.tap({kStages[i], operands.own(i).span()});
    if (!run.quant) continue;

    // Looked up behind the tap, which may have given the point its range.
    const std::optional<ActivationQuant>& point = *run.quant->points()[i];
    if (!point) continue;
    Tensor& x = operands.own(i);
    fake_quantize_activations(x, *point, run.rounding, x.span(), ctx);
  }
}

void prepare_operands(const AttentionCall& call, const AttentionRun& run,
                      AttentionOperands& operands, ExecContext& ctx) {
  transform_operands(call, run, operands, ctx);
  quantize_operands(run, operands, ctx);
}

ProbsHook score_terms(const AttentionCall& call, const AttentionOperands& operands) {
  AttentionShape shape = call.shape();
  shape.scale = operands.scale;
  const std::int64_t first_head = call.first_head();

  if (!call.spec.alibi_slopes.empty())
    return [&call, shape, first_head](std::int64_t index, std::span<float> scores) {
      const std::int64_t head = first_head + index % shape.num_heads;
      const SequenceSpan& span = shape.sequences[static_cast<std::size_t>(index / shape.num_heads)];
      add_alibi(call.spec.alibi_slopes[static_cast<std::size_t>(head)],
                call.positions.subspan(static_cast<std::size_t>(span.k_begin)), span.k_count,
                scores);
    };

  if (call.relative_query) {
    require(call.part.is_whole(), ErrorCode::kUnsupported,
            "attention with disentangled positions runs in whole only");
    return [&call, &operands, shape](std::int64_t index, std::span<float> scores) {
      add_disentangled(call.spec.disentangled, shape, index, operands[kQueryOperand],
                       operands[kKeyOperand], *call.relative_query, *call.relative_key, scores);
    };
  }

  if (call.bias)
    return [&call, shape, first_head](std::int64_t index, std::span<float> scores) {
      const std::int64_t head = first_head + index % shape.num_heads;
      const SequenceSpan& span = shape.sequences[static_cast<std::size_t>(index / shape.num_heads)];
      const std::int64_t length = call.bias->cols();  // of queries and keys alike
      for (std::int64_t i = 0; i < span.q_count; ++i) {
        const float* bias = call.bias->row(head * length + call.part.first_query + i);
        const auto row = scores.subspan(static_cast<std::size_t>(i * span.k_count),
                                        static_cast<std::size_t>(span.k_count));
        for (std::size_t j = 0; j < row.size(); ++j) row[j] += bias[j];
      }
    };
  return nullptr;
}

void quantize_map(const AttentionRun& run, std::span<float> map) {
  if (!run.quant || !run.quant->probs) return;
  const ActivationQuant& probs = *run.quant->probs;
  fake_quantize(map, probs.qparams, probs.spec, run.rounding, map);
}

namespace {

/// What happens to scores and maps between the products.
class Stages {
 public:
  Stages(const AttentionCall& call, const AttentionRun& run, const AttentionOperands& operands)
      : call_(call), run_(run), shape_(call.shape()), terms_(score_terms(call, operands)) {
    shape_.scale = operands.scale;
  }

  const AttentionShape& shape() const { return shape_; }

  ProbsHook on_scores() const {
    if (!watched()) return terms_;
    return [this](std::int64_t index, std::span<float> scores) {
      round(scores);
      if (terms_) {
        terms_(index, scores);
        round(scores);
      }
      show(AttentionStage::kScores, index, scores);
    };
  }

  ProbsHook on_map() const {
    const bool quantized = run_.quant && run_.quant->probs;
    if (!watched() && !quantized) return nullptr;
    return [this](std::int64_t index, std::span<float> map) {
      round(map);
      show(AttentionStage::kMap, index, map);
      quantize_map(run_, map);
    };
  }

 private:
  bool watched() const { return run_.tap || run_.arithmetic != DType::kF32; }

  void round(std::span<float> values) const {
    if (run_.arithmetic != DType::kF32)
      for (float& v : values) v = round_to(run_.arithmetic, v);
  }

  void show(AttentionStage stage, std::int64_t index, std::span<float> matrix) const {
    if (!run_.tap) return;
    const std::int64_t sequence = index / shape_.num_heads;
    const std::int64_t head = call_.first_head() + index % shape_.num_heads;
    const std::int64_t keys = shape_.sequences[static_cast<std::size_t>(sequence)].k_count;
    const Shape of_matrix{std::ssize(matrix) / keys, keys};
    run_.tap({stage, TensorSpan(matrix.data(), DType::kF32, of_matrix), sequence, head});
  }

  const AttentionCall& call_;
  const AttentionRun& run_;
  AttentionShape shape_;
  ProbsHook terms_;
};

}  // namespace

Tensor attend(const AttentionCall& call, const AttentionRun& run, const AttentionOperands& operands,
              ExecContext& ctx) {
  const Stages stages(call, run, operands);
  // Zeros where a part leaves rows to others.
  Tensor out = Tensor::f32(operands[kQueryOperand].shape());
  attention(stages.shape(), operands[kQueryOperand], operands[kKeyOperand], operands[kValueOperand],
            call.keys.mask, out.span(), stages.on_scores(), stages.on_map(), ctx);

  if (run.arithmetic != DType::kF32) round_values(run.arithmetic, out.span(), ctx);
  if (run.tap) run.tap({AttentionStage::kContext, out.span()});
  return out;
}

Tensor run_attention(const AttentionCall& call, const AttentionRun& run, AttentionOperands operands,
                     ExecContext& ctx) {
  prepare_operands(call, run, operands, ctx);
  return attend(call, run, operands, ctx);
}

void transform_gradients(const AttentionCall& call, const AttentionRun& run, Tensor& query,
                         Tensor& key, ExecContext& ctx) {
  if (run.scales_query(call.spec)) multiply_by(call.spec.scale, query);
  if (!call.spec.rotary_inv_freq.empty()) rotate_each(call, {&query, &key}, true, ctx);
}

}  // namespace quell
