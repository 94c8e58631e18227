#include "quell/compress/token_clipping.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "quell/base/error.h"
#include "quell/compress/attention_points.h"
#include "quell/compress/backward.h"
#include "quell/compress/channel_stats.h"
#include "quell/engine/engines.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/ops/likelihood.h"
#include "quell/quant/adam.h"
#include "quell/quant/observers/observer.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

std::vector<float> sorted_magnitudes(std::vector<float> values) {
  for (float& v : values) v = std::fabs(v);
  std::sort(values.begin(), values.end());
  return values;
}

/// torch.quantile, linear.
float quantile(std::span<const float> sorted, double p) {
  const double rank = static_cast<double>(static_cast<float>(p)) *
                      static_cast<double>(sorted.size() - 1),
               below = std::floor(rank);
  const auto weight = static_cast<float>(rank - below);
  const float a = sorted[static_cast<std::size_t>(below)],
              b = sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(below) + 1)];
  return weight < 0.5F ? std::fma(weight, b - a, a) : std::fma(weight - 1.0F, b - a, b);
}

class Clipping {
  static constexpr const char* kWhat = "token_wise_clipping";

 public:
  Clipping(const Model& model, const std::vector<TokenBatch>& samples,
           const TokenClippingOptions& options, ExecContext& ctx, const Notes& notes)
      : model_(model),
        samples_(samples),
        options_(options),
        ctx_(ctx),
        notes_(notes),
        tried_(quantizers_of(model)) {
    for (const auto& [value, quant] : tried_.inputs)
      if (is_static_per_tensor(quant)) add({value, -1, 0}, quant.spec);
    for (const auto& [node, quant] : tried_.attention)
      for (int point = 0; point < 4; ++point)
        if (const auto& q = *quant.points()[static_cast<std::size_t>(point)]; q && !q->spec.dynamic)
          add({-1, node, point}, q->spec);
    require(!result_.places.empty(), ErrorCode::kUsage,
            "token_wise_clipping: the recipe has no static activation quantizer to clip");
  }
  Clipping(const Clipping&) = delete;
  Clipping& operator=(const Clipping&) = delete;

  TokenClippingResult run() {
    result_.percentiles = grid();
    observe();
    if (result_.percentiles.size() == 1 && options_.epochs == 0) {
      result_.best = 0;
      return std::move(result_);
    }
    prepare_loss();
    double best = std::numeric_limits<double>::infinity();
    for (std::size_t c = 0; c < result_.percentiles.size(); ++c) {
      result_.losses.push_back(
          noted([&] { return loss(clipping_plan(model_, result_, static_cast<int>(c)), best); }));
      if (result_.losses.back() < best) {
        best = result_.losses.back();
        result_.best = static_cast<int>(c);
      }
      ctx_.progress("clip", static_cast<std::int64_t>(c) + 1,
                    static_cast<std::int64_t>(result_.percentiles.size()));
    }
    require(result_.best >= 0, ErrorCode::kNumeric,
            "token_wise_clipping: no percentile gives a finite loss");
    if (options_.epochs > 0) learn();
    return std::move(result_);
  }

 private:
  const Node& node(int n) const { return model_.graph.node(n); }

  template <typename Make>
  double noted(Make make) const {
    return notes_.next([&] { return std::vector<double>{make()}; }).at(0);
  }

  void add(const QuantizerPlace& place, const QuantSpec& spec) {
    (place.value >= 0 ? by_value_[place.value] : by_point_[{place.node, place.point}]) =
        result_.places.size();
    result_.places.push_back(place);
    bits_ = std::max(bits_, spec.num_bits);
  }

  /// 1, 1 - step, ... as the reference counts: a step for 128 tokens of 32 sequences, finer for
  /// larger batches.
  std::vector<double> grid() const {
    if (options_.percentile > 0) return {options_.percentile};
    double step = options_.step;
    if (step == 0) {
      std::int64_t sequences = 1, length = 1;
      for (const TokenBatch& b : samples_) {
        sequences = std::max(sequences, b.batch);
        length = std::max(length, b.length);
      }
      const double exact = 128.0 * 32.0 * 0.01 / static_cast<double>(sequences * length);
      const double digit = std::pow(10.0, std::floor(std::log10(exact)) - 1);
      step = std::min(0.01, std::round(exact / digit) * digit);
    }
    // Tenths of the grid's width by bits; 8, 6 and 4 are the reference's.
    const double width = bits_ >= 8   ? 0.1
                         : bits_ == 7 ? 0.2
                         : bits_ == 6 ? 0.3
                         : bits_ == 5 ? 0.6
                                      : 0.9;
    const auto count =
        options_.candidates > 0 ? options_.candidates : static_cast<std::int64_t>(width / step);
    std::vector<double> out;
    for (std::int64_t i = 0;
         i < std::max<std::int64_t>(count, 1) && 1.0 - step * static_cast<double>(i) > 0; ++i)
      out.push_back(1.0 - step * static_cast<double>(i));
    return out;
  }

  /// The ranges of all candidates from one float pass.
  void observe() {
    std::vector<std::vector<std::unique_ptr<Observer>>> observers;  // by candidate and place
    for (std::size_t c = 0; c < result_.percentiles.size(); ++c) {
      auto& places = observers.emplace_back();
      for (std::size_t i = 0; i < result_.places.size(); ++i) places.push_back(make_observer({}));
    }
    const auto see = [&](std::size_t place, const std::vector<Range>& by_candidate) {
      for (std::size_t c = 0; c < observers.size(); ++c)
        observers[c][place]->observe(by_candidate[c]);
    };
    const auto see_rows = [&](std::size_t place, const TensorView& x, const TokenBatch& of) {
      see(place, x.rows() == of.rows() ? clip_tokens(extrema(x, of), result_.percentiles)
                                       : unclipped(range_of(x.f32(), kWhat)));
    };
    const OpTable ops = make_float_ops(model_);
    for (const TokenBatch& batch : samples_) {
      Executor executor(model_, ops, false, batch, ctx_);
      PointTap tap(executor,
                   [&](int n, AttentionPoint point, const TensorView& operand, Range probs) {
                     const auto it = by_point_.find({n, static_cast<int>(point)});
                     if (it == by_point_.end()) return;
                     if (point == AttentionPoint::kProbs) return see(it->second, unclipped(probs));
                     see_rows(it->second, operand,
                              executor.batch_of(node(n).in[static_cast<std::size_t>(point)]));
                   });
      executor.on_attention = std::ref(tap);
      for (const NodeId n : model_.graph.order()) {
        executor.run(n);
        const ValueId out = node(n).out;
        const auto it = by_value_.find(base_of(model_.graph, out));
        if (it != by_value_.end() && migrated(model_.graph, out) == out)
          see_rows(it->second, executor.value(out), executor.batch_of(out));
      }
    }
    for (const auto& places : observers) {
      std::vector<Range>& ranges = result_.ranges.emplace_back();
      for (const auto& observer : places) ranges.push_back(observer->range());
    }
  }

  static TokenExtrema extrema(const TensorView& x, const TokenBatch& batch) {
    TokenExtrema tokens;
    for (std::int64_t i = 0; i < x.rows(); ++i) {
      if (!row_counts(x, batch, i)) continue;
      const Range r = range_of({x.row(i), static_cast<std::size_t>(x.cols())}, kWhat);
      tokens.max.push_back(r.max);
      tokens.min.push_back(r.min);
    }
    return tokens;
  }
  std::vector<Range> unclipped(Range range) const {
    return std::vector<Range>(result_.percentiles.size(), range);
  }

  std::map<std::string, Tensor> outputs(const OpTable& ops, const Quantization& quantization,
                                        const TokenBatch& batch) const {
    ForwardOutputs out;
    run_forward(model_, model_.graph, ops, quantization, batch, out, ctx_);
    return compared(std::move(out));
  }

  /// The outputs that the loss is about.
  static std::map<std::string, Tensor> compared(ForwardOutputs out) {
    std::map<std::string, Tensor> kept;
    const auto take = [&](const char* name) {
      if (const auto it = out.values.find(name); it != out.values.end())
        kept[name] = std::move(it->second);
    };
    for (const char* name : {"logits", "start_logits", "end_logits"}) take(name);
    if (kept.empty()) take("embedding");
    if (kept.empty()) take("last_hidden_state");
    return kept;
  }

  /// Masked models and those with an encoder have such a head too, but other targets than the next
  /// token of the batch.
  bool predicts_next_tokens() const {
    bool head = false, causal = !model_.graph.is_encoder_decoder();
    for (const Param& p : model_.params) head |= p.role == Role::kLmHead;
    for (NodeId n = 0; n < model_.graph.num_nodes(); ++n)
      if (model_.graph.node(n).is(op_attention))
        causal &= attention_of(model_.graph.node(n)).causal;
    return head && causal;
  }

  void prepare_loss() {
    const bool language_model = predicts_next_tokens();
    cross_entropy_ = options_.loss == ClippingLoss::kCrossEntropy ||
                     (options_.loss == ClippingLoss::kAuto && language_model);
    require(
        !cross_entropy_ || language_model, ErrorCode::kUsage,
        "token_wise_clipping: loss cross_entropy needs a causal language model; use loss: outputs");
    if (!cross_entropy_) {
      const OpTable ops = make_float_ops(model_);
      for (const TokenBatch& batch : samples_)
        targets_.push_back(outputs(ops, Quantization(false), batch));
    }
    for (std::size_t p = 0; p < model_.params.size(); ++p) {
      const Param& param = model_.params[p];
      if (!options_.float_weights && param.quantized) weights_[p] = dequantize(*param.quantized);
    }
  }

  OpTable make_ops() const {
    OpTable ops = make_float_ops(model_);
    for (NodeId n = 0; n < model_.graph.num_nodes(); ++n) {
      std::unique_ptr<LinearOp>& op = ops[static_cast<std::size_t>(n)];
      if (!op || !model_.param_of(n).quantized) continue;
      const Param& p = model_.param_of(n);
      const auto weight = weights_.find(static_cast<std::size_t>(model_.graph.node(n).param));
      const TensorView& w =
          weight == weights_.end() ? TensorView(model_.weight_of(p)) : TensorView(weight->second);
      if (const auto input = tried_.inputs.find(base_of(model_.graph, node(n).in[0]));
          input != tried_.inputs.end())
        op = make_fake_quantized_product(w, p.bias, input->second, Rounding::kDivide,
                                         conv_geometry(model_.graph, n));
    }
    return ops;
  }

  /// The quantizers of the plan beside the model.
  void try_out(const Plan& plan) {
    for (const PlanItem& item : plan) {
      if (const auto* input = std::get_if<SetInputQuant>(&item))
        tried_.inputs[input->value] = input->quant;
      if (const auto* attention = std::get_if<SetAttentionQuant>(&item))
        tried_.attention[attention->node] = attention->quant;
    }
  }

  Quantization quantization() const {
    Quantization tried(Rounding::kDivide);
    tried.overlay = &tried_;
    tried.float_tables = options_.float_weights;
    return tried;
  }

  /// Sum over batches of the loss, or what has come together when it reached `limit`.
  double loss(const Plan& plan, double limit) {
    try_out(plan);
    const OpTable ops = make_ops();
    double sum = 0;
    for (std::size_t b = 0; b < samples_.size() && sum < limit; ++b) {
      const auto got = outputs(ops, quantization(), samples_[b]);
      for (const auto& [name, tensor] : got)
        sum += cross_entropy_ ? cross_entropy(tensor, samples_[b])
                              : mean_square(tensor, targets_[b].at(name), samples_[b]);
    }
    return sum;
  }

  static double mean_square(const Tensor& got, const Tensor& want, const TokenBatch& batch) {
    double sum = 0;
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < got.rows(); ++i) {
      if (!row_counts(got, batch, i)) continue;
      for (std::int64_t j = 0; j < got.cols(); ++j) {
        const double d = static_cast<double>(got.row(i)[j]) - static_cast<double>(want.row(i)[j]);
        sum += d * d;
      }
      count += got.cols();
    }
    return count ? sum / static_cast<double>(count) : 0.0;
  }

  /// Mean over the next tokens, padding included, as the reference's labels have it.
  static double cross_entropy(const Tensor& logits, const TokenBatch& batch) {
    double sum = 0;
    std::int64_t count = 0;
    for (std::int64_t b = 0; b < batch.batch; ++b)
      for (std::int64_t i = batch.row_begin(b); i + 1 < batch.row_begin(b) + batch.row_count(b);
           ++i, ++count)
        sum += negative_log_likelihood({logits.row(i), static_cast<std::size_t>(logits.cols())},
                                       batch.ids[static_cast<std::size_t>(i) + 1]);
    return count ? sum / static_cast<double>(count) : 0.0;
  }

  /// Fine stage: Adam on the steps and zero points of all quantizers, one step a batch.
  void learn() {
    constexpr double kAll = std::numeric_limits<double>::infinity();
    try_out(clipping_plan(model_, result_, result_.best));
    result_.coarse_loss = noted([&] { return loss({}, kAll); });
    const std::size_t places = result_.places.size();
    std::vector<float> parameters;  // scale and zero point of each place
    for (const QuantizerPlace& place : result_.places) {
      const StepAndZero& at = quantizer(place).qparams;
      parameters.insert(parameters.end(), {at.scale, static_cast<float>(at.zero_point)});
    }
    CosineAdam adam(parameters.size(), options_.learning_rate,
                    options_.epochs * static_cast<std::int64_t>(samples_.size()));
    for (std::int64_t epoch = 0; epoch < options_.epochs; ++epoch)
      for (std::size_t b = 0; b < samples_.size(); ++b) {
        const std::vector<double> loss_and_gradients = notes_.next([&] { return gradients(b); });
        result_.step_losses.push_back(loss_and_gradients.front());
        adam.step(std::span(loss_and_gradients).subspan(1), parameters);
        for (std::size_t i = 0; i < places; ++i) {
          ActivationQuant& at = quantizer(result_.places[i]);
          float &scale = parameters[2 * i], &zero = parameters[2 * i + 1];
          scale = std::max(std::fabs(scale), 0x1p-23F);
          zero = std::clamp(zero, static_cast<float>(at.spec.min_code()),
                            static_cast<float>(at.spec.max_code()));
          at.qparams = {scale, static_cast<std::int32_t>(std::nearbyint(zero))};
        }
        ctx_.progress(
            "learn",
            epoch * static_cast<std::int64_t>(samples_.size()) + static_cast<std::int64_t>(b) + 1,
            options_.epochs * static_cast<std::int64_t>(samples_.size()));
      }
    for (const QuantizerPlace& place : result_.places)
      result_.learned.push_back(quantizer(place).qparams);
    result_.fine_loss = noted([&] { return loss({}, kAll); });
  }

  ActivationQuant& quantizer(const QuantizerPlace& place) {
    if (place.value >= 0) return tried_.inputs.at(place.value);
    return **tried_.attention.at(place.node).points()[static_cast<std::size_t>(place.point)];
  }

  /// The loss on one batch, and its gradients to scale and zero point of every place. Symmetric
  /// quantizers have no zero point to move.
  std::vector<double> gradients(std::size_t b) {
    const TokenBatch& batch = samples_[b];
    const OpTable ops = make_ops();
    Executor executor(model_, ops, quantization(), batch, ctx_);
    executor.keep_values = true;
    executor.run_until();
    Backward backward(model_, weights_, executor, ctx_);
    double loss = 0;
    const std::map<std::string, ValueId> output(model_.graph.outputs.begin(),
                                                model_.graph.outputs.end());
    if (cross_entropy_) {
      const Tensor logits = executor.seen(output.at("logits"));
      loss = cross_entropy(logits, batch);
      backward.seed(output.at("logits"), cross_entropy_gradient(logits, batch));
    } else {
      for (const auto& [name, want] : targets_[b]) {
        const bool pooled = name == "embedding";
        const ValueId value = output.at(pooled ? "last_hidden_state" : name);
        const Tensor hidden = executor.seen(value);
        const Tensor got = pooled ? embed(model_.sentence, hidden, batch, ctx_) : hidden.clone();
        loss += mean_square(got, want, batch);
        Tensor gradient = mean_square_gradient(got, want, batch);
        if (pooled) gradient = embed_backward(model_.sentence, hidden, batch, gradient, ctx_);
        backward.seed(value, std::move(gradient));
      }
    }
    backward.run();
    std::vector<double> out = {loss};
    for (const QuantizerPlace& place : result_.places) {
      const StepGradient g = place.value >= 0 ? backward.at_values[place.value]
                                              : backward.at_points[{place.node, place.point}];
      out.insert(out.end(), {g.scale, quantizer(place).spec.symmetric ? 0.0 : g.zero_point});
    }
    return out;
  }

  static Tensor mean_square_gradient(const Tensor& got, const Tensor& want,
                                     const TokenBatch& batch) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < got.rows(); ++i)
      count += row_counts(got, batch, i) ? got.cols() : 0;
    Tensor out = Tensor::f32(got.shape());
    for (std::int64_t i = 0; i < got.rows(); ++i)
      for (std::int64_t j = 0; j < got.cols() && row_counts(got, batch, i); ++j)
        out.row(i)[j] = 2 * (got.row(i)[j] - want.row(i)[j]) / static_cast<float>(count);
    return out;
  }

  /// (softmax - target) / count.
  static Tensor cross_entropy_gradient(const Tensor& logits, const TokenBatch& batch) {
    std::int64_t count = 0;
    for (std::int64_t b = 0; b < batch.batch; ++b) count += batch.row_count(b) - 1;
    Tensor out = Tensor::f32(logits.shape());
    for (std::int64_t b = 0; b < batch.batch; ++b)
      for (std::int64_t i = batch.row_begin(b); i + 1 < batch.row_begin(b) + batch.row_count(b);
           ++i) {
        const std::span<const float> row(logits.row(i), static_cast<std::size_t>(logits.cols()));
        const double total = log_sum_exp(row);
        for (std::size_t j = 0; j < row.size(); ++j)
          out.row(i)[j] = static_cast<float>(std::exp(static_cast<double>(row[j]) - total) /
                                             static_cast<double>(count));
        out.row(i)[batch.ids[static_cast<std::size_t>(i) + 1]] -= 1.0F / static_cast<float>(count);
      }
    return out;
  }

  const Model& model_;
  const std::vector<TokenBatch>& samples_;
  TokenClippingOptions options_;
  ExecContext& ctx_;
  const Notes& notes_;
  ActivationQuantizers tried_;  ///< in the place of the model's, which stay

  int bits_ = 0;
  std::map<ValueId, std::size_t> by_value_;
  std::map<std::pair<int, int>, std::size_t> by_point_;
  Backward::Weights weights_;
  bool cross_entropy_ = false;
  std::vector<std::map<std::string, Tensor>> targets_;
  TokenClippingResult result_;
};

}  // namespace

std::vector<Range> clip_tokens(const TokenExtrema& tokens, std::span<const double> percentiles) {
  require(!tokens.max.empty(), ErrorCode::kInvalidInput,
          "token_wise_clipping: a batch without tokens");
  const std::vector<float> highs = sorted_magnitudes(tokens.max),
                           lows = sorted_magnitudes(tokens.min);
  std::vector<Range> out;
  for (const double p : percentiles) {
    const float high = quantile(highs, p), low = -quantile(lows, p);
    Range r{std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
    for (const float v : tokens.max)
      if (v <= high) r.max = std::max(r.max, v);
    for (const float v : tokens.min)
      if (v >= low) r.min = std::min(r.min, v);
    out.push_back(r);
  }
  return out;
}

TokenClippingResult search_token_clipping(const Model& model,
                                          const std::vector<TokenBatch>& samples,
                                          const TokenClippingOptions& options, ExecContext& ctx,
                                          const Notes& notes) {
  return Clipping(model, samples, options, ctx, notes).run();
}

namespace {

/// `qparams_of(i, spec)` at every place.
template <typename QParamsOf>
Plan plan_of(const Model& model, const TokenClippingResult& result, const QParamsOf& qparams_of) {
  Plan plan;
  std::map<int, AttentionQuant> attention;
  for (std::size_t i = 0; i < result.places.size(); ++i) {
    const QuantizerPlace& place = result.places[i];
    if (place.value >= 0) {
      const QuantSpec& spec = input_quant_of(model.graph, place.value)->spec;
      plan.emplace_back(SetInputQuant{place.value, {spec, qparams_of(i, spec)}});
    } else {
      AttentionQuant& quant =
          attention.emplace(place.node, *attention_quant_of(model.graph.node(place.node)))
              .first->second;
      ActivationQuant& at = **quant.points()[static_cast<std::size_t>(place.point)];
      at.qparams = qparams_of(i, at.spec);
    }
  }
  for (auto& [node, quant] : attention)
    plan.emplace_back(SetAttentionQuant{node, std::move(quant)});
  return plan;
}

}  // namespace

Plan clipping_plan(const Model& model, const TokenClippingResult& result, int candidate) {
  return plan_of(model, result, [&](std::size_t i, const QuantSpec& spec) {
    return calculate_qparams(result.ranges[static_cast<std::size_t>(candidate)][i], spec);
  });
}

Plan learned_plan(const Model& model, const TokenClippingResult& result) {
  return plan_of(model, result, [&](std::size_t i, const QuantSpec&) { return result.learned[i]; });
}

Plan final_plan(const Model& model, const TokenClippingResult& result) {
  const bool better = !result.learned.empty() && result.fine_loss < result.coarse_loss;
  return better ? learned_plan(model, result) : clipping_plan(model, result, result.best);
}

}  // namespace quell
