#include "quell/job/site_measurer.h"

#include <algorithm>
#include <cmath>

#include "quell/compress/channel_stats.h"
#include "quell/compress/compress.h"
#include "quell/engine/lower.h"
#include "quell/eval/scoring.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

double decibel(double signal, double noise) {
  return noise > 0 ? 10 * std::log10(signal / noise) : 99.0;
}

struct Energy {
  double signal = 0, noise = 0;
  void add(std::span<const float> exact, std::span<const float> got) {
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double x = static_cast<double>(exact[i]), d = x - static_cast<double>(got[i]);
      signal += x * x;
      noise += d * d;
    }
  }
  double sqnr() const { return decibel(signal, noise); }
};

/// By channel, what rounds to a code of a static quantizer without being clipped.
std::vector<Range> representable(const ActivationQuant& quant, std::int64_t channels) {
  const auto bounds = [&](const StepAndZero& q) {
    const auto value = [&](std::int32_t code, float half) {
      return (static_cast<float>(code - q.zero_point) + half) * q.scale;
    };
    return Range{value(quant.spec.min_code(), -0.5F), value(quant.spec.max_code(), 0.5F)};
  };
  std::vector<Range> out(static_cast<std::size_t>(channels), bounds(quant.qparams));
  if (const ChannelGroups* groups = quant.groups.get())
    for (std::size_t c = 0; c < groups->channels.size(); ++c)
      out[static_cast<std::size_t>(groups->channels[c])] =
          bounds(groups->steps[c / static_cast<std::size_t>(groups->size())]);
  return out;
}

}  // namespace

SiteMeasurer::SiteMeasurer(const Model& original, const Model& model, const Recipe& recipe,
                           const std::vector<TokenBatch>& samples, ExecContext& ctx)
    : original_(original), model_(model), samples_(samples), ctx_(ctx), divergence_(original) {
  for (Site& site : derive_sites(model, scope_of(recipe)))
    if (std::any_of(site.linears.begin(), site.linears.end(),
                    [&](int n) { return model_.param_of(n).quantized.has_value(); }))
      sites_.push_back(std::move(site));
}

void SiteMeasurer::run(SiteReport& report) {
  for (const LoweredNode& node : describe_lowering(model_, ctx_)) kernels_[node.name] = node.kernel;
  for (const Site& site : sites_) report.sites.push_back(describe(site));
  measure_ranges(original_, report, false);
  measure_ranges(model_, report, true);
  measure_whole(report);
  measure_alone_and_spared(report);
}

void SiteMeasurer::measure_whole(SiteReport& report) {
  want_ = outputs(make_float_ops(model_), false);
  const std::vector<Tensor> got = outputs(ops_except({}), true);
  all_ = divergence_of(got);
  float_classes_ = divergence_.top_classes(want_, samples_);
  quantized_classes_ = divergence_.top_classes(got, samples_);

  report.divergence = divergence_.words();
  report.all = all_.mean();
  report.has_classes = !float_classes_.empty();
  for (std::size_t i = 0; i < float_classes_.size(); ++i)
    report.other_classes += float_classes_[i] != quantized_classes_[i] ? 1 : 0;
}

void SiteMeasurer::measure_alone_and_spared(SiteReport& report) {
  const auto total = static_cast<std::int64_t>(2 * sites_.size());
  for (std::size_t s = 0; s < sites_.size(); ++s) {
    OpTable ops = make_float_ops(model_);
    for (const int n : sites_[s].linears)
      ops[static_cast<std::size_t>(n)] = make_simulated_op(model_, n, false, ctx_.isa);
    report.sites[s].alone = divergence_of(outputs(std::move(ops), false)).mean();

    spared_.push_back(divergence_of(outputs(ops_except(sites_[s].linears), true)));
    report.sites[s].spared = spared_.back().mean();
    ctx_.progress("measure sites", static_cast<std::int64_t>(2 * s + 2), total);
  }
}

OpTable SiteMeasurer::ops_except(const std::vector<int>& linears) const {
  OpTable ops = make_simulated_ops(model_, false, ctx_.isa);
  OpTable exact = make_float_ops(model_);
  for (const int n : linears)
    ops[static_cast<std::size_t>(n)] = std::move(exact[static_cast<std::size_t>(n)]);
  return ops;
}

std::vector<Tensor> SiteMeasurer::outputs(OpTable ops, bool quantized) const {
  const auto engine = make_step_model(model_, std::move(ops), quantized);
  return divergence_.outputs(*engine, samples_, ctx_);
}

Divergences SiteMeasurer::divergence_of(const std::vector<Tensor>& got) const {
  return divergence_.between(want_, got, samples_);
}

SiteMeasurement SiteMeasurer::describe(const Site& site) const {
  SiteMeasurement m;
  m.name = site.name;
  Energy weights;
  for (const int n : site.linears) {
    const Param& p = model_.param_of(n);
    if (const auto it = kernels_.find(model_.node_name(n)); it != kernels_.end())
      m.kernel = it->second;
    if (!p.quantized) continue;
    m.weight_bits = p.quantized->spec.num_bits;
    weights.add(p.weight.f32(), dequantize(*p.quantized).f32());
  }
  m.weight_sqnr = weights.sqnr();
  m.input_bits = (*input_quant_of(model_.graph, site.value())).spec.num_bits;
  return m;
}

void SiteMeasurer::measure_ranges(const Model& model, SiteReport& report, bool after) const {
  for_each_site_input(model, sites_, samples_, ctx_, [&](std::size_t s, const SiteActivations& x) {
    const Site& site = sites_[s];
    SiteMeasurement& m = report.sites[s];
    ChannelStats stats = channel_stats(x, false, site.name);
    (after ? m.columns : m.channels) = x.x.front()->cols();
    (after ? m.min_after : m.min_before) = std::move(stats.min);
    (after ? m.max_after : m.max_before) = std::move(stats.max);
    if (!after) return;
    measure_inputs(site, x, m);
    measure_outputs(site, x, m);
  });
}

void SiteMeasurer::measure_inputs(const Site& site, const SiteActivations& x,
                                  SiteMeasurement& m) const {
  const ActivationQuant& quant = *input_quant_of(model_.graph, site.value());
  const std::vector<Range> bounds = representable(quant, x.x.front()->cols());
  Energy input;
  double outside = 0, all = 0;
  for (std::size_t b = 0; b < x.x.size(); ++b) {
    const Tensor& exact = *x.x[b];
    Tensor quantized = Tensor::f32(exact.shape());
    fake_quantize_activations(exact, quant, Rounding::kReciprocal, quantized.span(), ctx_);

    for (std::int64_t i = 0; i < exact.rows(); ++i) {
      if (!row_counts(exact, *x.batches[b], i)) continue;
      input.add(row_of(exact, i), row_of(quantized, i));
      all += static_cast<double>(exact.cols());
      for (std::size_t j = 0; j < bounds.size() && !quant.spec.dynamic; ++j)
        outside += exact.row(i)[j] < bounds[j].min || exact.row(i)[j] > bounds[j].max ? 1 : 0;
    }
  }
  m.input_sqnr = input.sqnr();
  m.clipped = all > 0 ? outside / all : 0;
}

void SiteMeasurer::measure_outputs(const Site& site, const SiteActivations& x,
                                   SiteMeasurement& m) const {
  const ActivationQuant& quant = *input_quant_of(model_.graph, site.value());
  Energy output, inputs_only, weights_only;
  for (const int n : site.linears) {
    const Param& p = model_.param_of(n);
    const bool reads_value = base_of(model_.graph, model_.graph.node(n).in[0]) == site.value();
    if (!p.quantized || !reads_value) continue;

    const Tensor weight = dequantize(*p.quantized);
    const auto geometry = conv_geometry(model_.graph, n);
    const auto quantizing = [&](const TensorView& w) {
      return make_fake_quantized_product(w, p.bias, quant, Rounding::kReciprocal, geometry);
    };
    const auto of_both = quantizing(weight);
    const auto of_inputs = quantizing(p.weight);

    for (std::size_t b = 0; b < x.x.size(); ++b) {
      const Tensor& exact = *x.x[b];
      Tensor want = Tensor::f32({of_both->out_rows(exact.rows()), weight.rows()});
      Tensor got = want.clone();
      const auto add_to = [&](Energy& energy) {
        for (std::int64_t i = 0; i < want.rows(); ++i)
          if (row_counts(want, *x.batches[b], i)) energy.add(row_of(want, i), row_of(got, i));
      };
      compute_product(exact, p.weight, p.bias, geometry.get(), want.span(), ctx_);
      of_both->forward(exact, got.span(), ctx_);
      add_to(output);
      of_inputs->forward(exact, got.span(), ctx_);
      add_to(inputs_only);
      compute_product(exact, weight, p.bias, geometry.get(), got.span(), ctx_);
      add_to(weights_only);
    }
  }
  m.output_sqnr = output.sqnr();
  m.inputs_only_sqnr = inputs_only.sqnr();
  m.weights_only_sqnr = weights_only.sqnr();
}

}  // namespace quell
