#include "quell/job/site_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "quell/base/error.h"
#include "quell/compress/channel_stats.h"
#include "quell/compress/compress.h"
#include "quell/eval/metrics.h"
#include "quell/eval/scoring.h"
#include "quell/io/output_file.h"
#include "quell/model/forward.h"
#include "quell/ops/linear.h"
#include "quell/quant/quantize.h"
#include "quell/runtime/lower.h"

namespace quell {
namespace {

constexpr int kTrials = 3;  // remedies that are tried on the whole model

double decibel(double signal, double noise) { return noise > 0 ? 10 * std::log10(signal / noise) : 99.0; }

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

/// How far a model's outputs are from those of another: KL divergence of logits, 1 - cosine of sentence embeddings, or the relative
/// squared error of the last hidden states.
class Divergence {
 public:
  explicit Divergence(const Model& model)
      : model_(model), output_(model.pooling != PoolingKind::kNone ? "embedding" : "last_hidden_state") {
    for (const auto& [name, value] : model.graph.outputs)
      if (name == "logits") output_ = name;
  }

  std::string words() const {
    return output_ == "embedding" ? "1 - cosine of the sentence embeddings"
           : output_ == "logits"  ? "KL divergence of the logits, in nats"
                                  : "relative squared error of the last hidden states";
  }

  std::vector<Tensor> outputs(const Model& model, const OpTable& ops, bool quantized, const std::vector<TokenBatch>& samples,
                              ExecContext& ctx) const {
    std::vector<Tensor> out;
    for (const TokenBatch& batch : samples) {
      ForwardOutputs result;
      run_forward(model, ops, {}, quantized, batch, result, ctx);
      out.push_back(std::move(result.values.at(output_)));
    }
    return out;
  }

  double between(const std::vector<Tensor>& want, const std::vector<Tensor>& got, const std::vector<TokenBatch>& samples) const {
    double sum = 0, count = 0;
    Energy energy;
    for (std::size_t b = 0; b < want.size(); ++b) {
      const TokenBatch batch = model_.spec.stacks.size() > 1 ? decoder_batch(model_.spec, samples[b]) : samples[b];
      for (std::int64_t i = 0; i < want[b].rows(); ++i) {
        const std::span<const float> w = row_of(want[b], i), g = row_of(got[b], i);
        if (!row_counts(want[b], batch, i)) continue;
        if (output_ == "logits") sum += kl_divergence(w, g);
        if (output_ == "embedding") sum += 1 - cosine(w, g);
        energy.add(w, g);
        ++count;
      }
    }
    return output_ == "last_hidden_state" ? energy.noise / energy.signal : sum / count;
  }

 private:
  const Model& model_;
  std::string output_;
};

/// By channel, what rounds to a code of a static quantizer without being clipped.
std::vector<Range> representable(const ActivationQuant& quant, std::int64_t channels) {
  const auto bounds = [&](const StepAndZero& q) {
    const auto value = [&](std::int32_t code, float half) { return (static_cast<float>(code - q.zero_point) + half) * q.scale; };
    return Range{value(quant.spec.min_code(), -0.5F), value(quant.spec.max_code(), 0.5F)};
  };
  std::vector<Range> out(static_cast<std::size_t>(channels), bounds(quant.qparams));
  if (const ChannelGroups* groups = quant.groups.get())
    for (std::size_t c = 0; c < groups->channels.size(); ++c)
      out[static_cast<std::size_t>(groups->channels[c])] = bounds(groups->steps[c / static_cast<std::size_t>(groups->size())]);
  return out;
}

class Measurer {
 public:
  Measurer(const Model& original, Model& model, const SiteReportJob& job, const std::vector<TokenBatch>& samples, ExecContext& ctx)
      : original_(original), model_(model), samples_(samples), ctx_(ctx), divergence_(original) {
    for (Site& site : derive_sites(model, scope_of(job.recipe)))
      if (std::any_of(site.linears.begin(), site.linears.end(), [&](int n) { return model_.param_of(n).quantized.has_value(); }))
        sites_.push_back(std::move(site));
  }

  void run(SiteReport& report) {
    for (const LoweredNode& node : describe_lowering(model_, ctx_)) kernels_[node.name] = node.kernel;
    for (const Site& site : sites_) report.sites.push_back(describe(site));
    measure_ranges(original_, report, false);
    measure_ranges(model_, report, true);
    const OpTable exact = make_float_ops(model_);
    want_ = divergence_.outputs(model_, exact, false, samples_, ctx_);
    report.divergence = divergence_.words();
    report.all = quantized_except({});
    const auto total = static_cast<std::int64_t>(2 * sites_.size());
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      OpTable ops = make_float_ops(model_);
      quantize(sites_[s], ops);
      report.sites[s].alone = divergence_.between(want_, divergence_.outputs(model_, ops, false, samples_, ctx_), samples_);
      report.sites[s].spared = quantized_except(sites_[s].linears);
      ctx_.progress("measure sites", static_cast<std::int64_t>(2 * s + 2), total);
    }
  }

  /// The whole quantized model but for some linears.
  double quantized_except(const std::vector<int>& linears) {
    return divergence_.between(want_, divergence_.outputs(model_, ops_except(linears), true, samples_, ctx_), samples_);
  }

  OpTable ops_except(const std::vector<int>& linears) const {
    OpTable ops = make_simulated_ops(model_, false, ctx_.isa);
    OpTable exact = make_float_ops(model_);
    for (const int n : linears) ops[static_cast<std::size_t>(n)] = std::move(exact[static_cast<std::size_t>(n)]);
    return ops;
  }

  const std::vector<Site>& sites() const { return sites_; }

 private:
  void quantize(const Site& site, OpTable& ops) const {
    for (const int n : site.linears) ops[static_cast<std::size_t>(n)] = make_simulated_op(model_, n, false, ctx_.isa);
  }

  SiteMeasurement describe(const Site& site) const {
    SiteMeasurement m;
    m.name = site.name;
    Energy weights;
    for (const int n : site.linears) {
      const Param& p = model_.param_of(n);
      m.columns = p.weight.cols();
      m.channels = p.weight.cols() - p.added_columns;
      if (const auto it = kernels_.find(model_.node_name(n)); it != kernels_.end()) m.kernel = it->second;
      if (!p.quantized) continue;
      m.weight_bits = p.quantized->spec.num_bits;
      weights.add(p.weight.f32(), dequantize(*p.quantized).f32());
    }
    m.weight_sqnr = weights.sqnr();
    m.input_bits = model_.input_quant.at(site.value()).spec.num_bits;
    return m;
  }

  /// One float pass; `after`: on the migrated model, with what its quantizers would do.
  void measure_ranges(const Model& model, SiteReport& report, bool after) {
    for_each_site_input(model, sites_, samples_, ctx_, [&](std::size_t s, const SiteActivations& x) {
      ChannelStats stats = channel_stats(x, false, sites_[s].name);
      SiteMeasurement& m = report.sites[s];
      (after ? m.min_after : m.min_before) = std::move(stats.min);
      (after ? m.max_after : m.max_before) = std::move(stats.max);
      if (after) measure_site(sites_[s], x, m);
    });
  }

  void measure_site(const Site& site, const SiteActivations& x, SiteMeasurement& m) const {
    const ActivationQuant& quant = model_.input_quant.at(site.value());
    Energy input, output, inputs_only, weights_only;
    double outside = 0, all = 0;
    const std::vector<Range> bounds = representable(quant, x.x.front()->cols());
    std::map<int, Tensor> dequantized;  // by linear that reads the value
    for (const int n : site.linears)
      if (const Param& p = model_.param_of(n); p.quantized && model_.graph.nodes[static_cast<std::size_t>(n)].in[0] == site.value())
        dequantized[n] = dequantize(*p.quantized);
    for (std::size_t b = 0; b < x.x.size(); ++b) {
      const Tensor& exact = *x.x[b];
      Tensor quantized = Tensor::f32(exact.shape());
      fake_quantize_activations(exact, quant, model_.rounding, quantized.span(), ctx_);
      std::vector<std::int64_t> rows;
      for (std::int64_t i = 0; i < exact.rows(); ++i)
        if (row_counts(exact, *x.batches[b], i)) rows.push_back(i);
      for (const std::int64_t i : rows) {
        input.add(row_of(exact, i), row_of(quantized, i));
        for (std::size_t j = 0; j < bounds.size() && !quant.spec.dynamic; ++j)
          outside += exact.row(i)[j] < bounds[j].min || exact.row(i)[j] > bounds[j].max ? 1 : 0;
        all += static_cast<double>(exact.cols());
      }
      for (const auto& [n, weight] : dequantized) {
        const Param& p = model_.param_of(n);
        Tensor want = Tensor::f32({exact.rows(), weight.rows()}), got = want.clone();
        matmul_nt(exact, p.weight, p.bias, want.span(), ctx_);
        const auto compare = [&](const Tensor& from, const Tensor& by, Energy& energy) {
          matmul_nt(from, by, p.bias, got.span(), ctx_);
          for (const std::int64_t i : rows) energy.add(row_of(want, i), row_of(got, i));
        };
        compare(quantized, weight, output);
        compare(quantized, p.weight, inputs_only);
        compare(exact, weight, weights_only);
      }
    }
    m.input_sqnr = input.sqnr();
    m.output_sqnr = output.sqnr();
    m.inputs_only_sqnr = inputs_only.sqnr();
    m.weights_only_sqnr = weights_only.sqnr();
    m.clipped = all > 0 ? outside / all : 0;
  }

  const Model& original_;
  Model& model_;
  const std::vector<TokenBatch>& samples_;
  ExecContext& ctx_;
  Divergence divergence_;
  std::vector<Site> sites_;
  std::map<std::string, std::string> kernels_;
  std::vector<Tensor> want_;
};

/// What the numbers suggest, tried on the whole model where it can be.
class Advisor {
 public:
  Advisor(Model& model, Measurer& measurer, const SiteReportJob& job, SiteReport& report, ExecContext& ctx)
      : model_(model), measurer_(measurer), job_(job), report_(report), ctx_(ctx) {}

  void run(const Model& original) {
    if (job_.eval) {
      set_ = load_eval_set(*job_.eval, job_.eval_data, original);
      report_.float_metric = metric(original, make_float_ops(original), false);
      report_.metric = metric(model_, make_simulated_ops(model_, false, ctx_.isa), true);
    }
    std::vector<std::size_t> order(report_.sites.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return report_.sites[a].spared < report_.sites[b].spared; });
    std::vector<std::pair<double, std::string>> tried;
    for (std::size_t i = 0; i < std::min<std::size_t>(kTrials, order.size()); ++i) tried.push_back(try_remedy(order[i]));
    std::stable_sort(tried.begin(), tried.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [divergence, line] : tried)
      if (divergence < report_.all) report_.advice.push_back(line);
    for (const SiteMeasurement& m : report_.sites) outlier_channel(m);
    for (const SiteMeasurement& m : report_.sites) clipping(m);
  }

 private:
  double metric(const Model& model, OpTable ops, bool quantized) {
    const auto engine = make_step_model(model, std::move(ops), {}, quantized);
    const MetricResult first = evaluate(*engine, nullptr, *job_.eval, set_, ctx_).front();
    report_.task = job_.eval->task + " " + first.metric;
    return first.value;
  }

  /// More bits for the side that loses most, or float: the divergence then, and a line that says so.
  std::pair<double, std::string> try_remedy(std::size_t s) {
    const SiteMeasurement& m = report_.sites[s];
    const Site& site = measurer_.sites()[s];
    const bool inputs = m.inputs_only_sqnr < m.weights_only_sqnr;
    ActivationQuant& quant = model_.input_quant.at(site.value());
    const ActivationQuant before = quant;
    std::string what = "keep " + m.name + " in float";
    std::vector<int> spared = site.linears;
    if (inputs && quant.spec.num_bits < 8) {
      what = "keep " + m.name + " inputs at 8 bits";
      spared.clear();
      const auto with_more_codes = [&](StepAndZero step, const QuantSpec& spec) {
        const auto edge = [&](int code) { return static_cast<float>(code - step.zero_point) * step.scale; };
        return calculate_qparams({edge(quant.spec.min_code()), edge(quant.spec.max_code())}, spec);
      };
      QuantSpec spec = quant.spec;
      spec.num_bits = 8;
      if (!spec.dynamic) quant.qparams = with_more_codes(quant.qparams, spec);
      if (quant.groups) {
        ChannelGroups groups = *quant.groups;
        for (StepAndZero& step : groups.steps) step = with_more_codes(step, spec);
        quant.groups = std::make_shared<const ChannelGroups>(std::move(groups));
      }
      quant.spec = spec;
    }
    const double divergence = measurer_.quantized_except(spared);
    std::string line = what + ": divergence " + format_text("%.3g", report_.all) + " -> " + format_text("%.3g", divergence);
    if (job_.eval)
      line += ", " + format_text("%+.2f", metric(model_, measurer_.ops_except(spared), true) - report_.metric) + " points";
    quant = before;
    return {divergence, line};
  }

  /// A channel far above all others, behind the migration.
  void outlier_channel(const SiteMeasurement& m) {
    std::vector<double> extremes;
    for (std::size_t j = 0; j < m.max_after.size(); ++j)
      extremes.push_back(static_cast<double>(std::max(m.max_after[j], -m.min_after[j])));
    const auto largest = std::max_element(extremes.begin(), extremes.end());
    const auto channel = largest - extremes.begin();
    const double value = *largest;
    std::vector<double> sorted = extremes;
    std::sort(sorted.begin(), sorted.end());
    const double peers = sorted[static_cast<std::size_t>(0.99 * static_cast<double>(sorted.size() - 1))];
    if (value < 4 * peers) return;
    report_.advice.push_back(m.name + ": channel " + std::to_string(channel) + " reaches " + format_text("%.1f", value) +
                             ", 99 % of the others stay below " + format_text("%.1f", peers) +
                             "; os_plus with explicit: true, split: 0.05 spreads it over columns of its own");
  }

  void clipping(const SiteMeasurement& m) {
    constexpr double kShare = 5e-3;  // means of batch extrema leave out up to 0.4 % (all-MiniLM-L6-v2)
    if (m.clipped < kShare) return;
    report_.advice.push_back(
        m.name + ": " + format_text("%.2f", 100 * m.clipped) +
        " % of the held-out inputs lie outside the quantizer's range; calibrate with more samples, or check that "
        "clipping is meant");
  }

  Model& model_;
  Measurer& measurer_;
  const SiteReportJob& job_;
  SiteReport& report_;
  ExecContext& ctx_;
  EvalSet set_;
};

}  // namespace

SiteReport run_site_report_job(const SiteReportJob& job, ExecContext& ctx) {
  OutputFile page(job.page);  // an unwritable one must not cost a calibration
  const Model original = load_model(Checkpoint::open(job.model_dir));
  CalibrationChoice both = job.calibration;
  both.num_samples += job.num_samples;
  std::vector<TokenSequence> all = load_samples(both, original);
  job.model_dir.check_accepted();
  // Where there are few rows, a third of them is kept for measuring.
  const std::size_t measured = std::min(static_cast<std::size_t>(job.num_samples), all.size() / 3);
  require(measured > 0, ErrorCode::kInvalidInput, job.calibration.data.file.string(), ": ", all.size(),
          " samples are too few to calibrate on some and measure on others");
  const std::vector<TokenSequence> held(all.end() - static_cast<std::ptrdiff_t>(measured), all.end());
  all.resize(all.size() - measured);
  const auto batch = static_cast<std::size_t>(job.recipe.batch_size);
  const std::vector<TokenBatch> calibration = make_batches(all, batch, original.spec.pad_token_id),
                                samples = make_batches(held, batch, original.spec.pad_token_id);
  Model model = load_model(Checkpoint::open(job.model_dir));
  compress(model, calibration, job.recipe, ctx);

  SiteReport report;
  const std::filesystem::path& dir = job.model_dir.path();
  report.model = (dir.has_filename() ? dir : dir.parent_path()).filename().string();
  report.recipe = job.recipe.name;
  report.scheme = scheme_of(job.recipe);
  report.isa = isa_name(ctx.isa);
  report.calibration_samples = static_cast<std::int64_t>(all.size());
  report.samples = static_cast<std::int64_t>(held.size());
  for (const TokenSequence& s : held) report.tokens += static_cast<std::int64_t>(s.ids.size());
  Measurer measurer(original, model, job, samples, ctx);
  measurer.run(report);
  Advisor(model, measurer, job, report, ctx).run(original);
  const std::string html = report.to_html();
  page.write(html.data(), html.size());
  page.commit();
  return report;
}

Json SiteReport::to_json() const {
  Json rows = Json::array();
  for (const SiteMeasurement& m : sites)
    rows.push_back({{"site", m.name},
                    {"kernel", m.kernel},
                    {"weight_bits", m.weight_bits},
                    {"input_bits", m.input_bits},
                    {"input_sqnr_db", m.input_sqnr},
                    {"weight_sqnr_db", m.weight_sqnr},
                    {"output_sqnr_db", m.output_sqnr},
                    {"output_sqnr_inputs_only_db", m.inputs_only_sqnr},
                    {"output_sqnr_weights_only_db", m.weights_only_sqnr},
                    {"clipped", m.clipped},
                    {"divergence_alone", m.alone},
                    {"divergence_without", m.spared}});
  Json json = {{"model", model},     {"recipe", recipe}, {"scheme", scheme}, {"divergence", divergence},
               {"samples", samples}, {"quantized", all}, {"sites", rows},    {"advice", advice}};
  if (!task.empty()) json["metric"] = {{"name", task}, {"float", float_metric}, {"quantized", metric}};
  return json;
}

}  // namespace quell
