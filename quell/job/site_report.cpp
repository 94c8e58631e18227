#include "quell/job/site_report.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <numeric>

#include "quell/base/error.h"
#include "quell/compress/channel_stats.h"
#include "quell/compress/compress.h"
#include "quell/engine/engines.h"
#include "quell/engine/lower.h"
#include "quell/eval/metrics.h"
#include "quell/eval/scoring.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"
#include "quell/job/outputs.h"
#include "quell/ops/linear.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

constexpr int kTrials = 3;  // remedies that are tried on the whole model

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

class Measurer {
 public:
  Measurer(const Model& original, Model& model, const SiteReportJob& job,
           const std::vector<TokenBatch>& samples, ExecContext& ctx)
      : original_(original), model_(model), samples_(samples), ctx_(ctx), divergence_(original) {
    for (Site& site : derive_sites(model, scope_of(job.recipe)))
      if (std::any_of(site.linears.begin(), site.linears.end(),
                      [&](int n) { return model_.param_of(n).quantized.has_value(); }))
        sites_.push_back(std::move(site));
  }

  void run(SiteReport& report) {
    for (const LoweredNode& node : describe_lowering(model_, ctx_))
      kernels_[node.name] = node.kernel;
    for (const Site& site : sites_) report.sites.push_back(describe(site));
    measure_ranges(original_, report, false);
    measure_ranges(model_, report, true);
    want_ = divergence_.outputs(*make_step_model(model_, make_float_ops(model_), false), samples_,
                                ctx_);
    report.divergence = divergence_.words();
    all_ = quantized_except({});
    report.all = all_.mean();
    const auto total = static_cast<std::int64_t>(2 * sites_.size());
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      OpTable ops = make_float_ops(model_);
      quantize(sites_[s], ops);
      report.sites[s].alone = between(std::move(ops), false).mean();
      spared_.push_back(quantized_except(sites_[s].linears));
      report.sites[s].spared = spared_.back().mean();
      ctx_.progress("measure sites", static_cast<std::int64_t>(2 * s + 2), total);
    }
  }

  /// The whole quantized model but for some linears.
  Divergences quantized_except(const std::vector<int>& linears) const {
    return between(ops_except(linears), true);
  }

  OpTable ops_except(const std::vector<int>& linears) const {
    OpTable ops = make_simulated_ops(model_, false, ctx_.isa);
    OpTable exact = make_float_ops(model_);
    for (const int n : linears)
      ops[static_cast<std::size_t>(n)] = std::move(exact[static_cast<std::size_t>(n)]);
    return ops;
  }

  const std::vector<Site>& sites() const { return sites_; }
  const Divergences& all() const { return all_; }
  const Divergences& spared(std::size_t site) const { return spared_[site]; }

 private:
  Divergences between(OpTable ops, bool quantized) const {
    const auto engine = make_step_model(model_, std::move(ops), quantized);
    return divergence_.between(want_, divergence_.outputs(*engine, samples_, ctx_), samples_);
  }

  void quantize(const Site& site, OpTable& ops) const {
    for (const int n : site.linears)
      ops[static_cast<std::size_t>(n)] = make_simulated_op(model_, n, false, ctx_.isa);
  }

  SiteMeasurement describe(const Site& site) const {
    SiteMeasurement m;
    m.name = site.name;
    Energy weights;
    for (const int n : site.linears) {
      const Param& p = model_.param_of(n);
      m.columns = p.weight.cols();
      m.channels = p.weight.cols() - p.added_columns;
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

  /// One float pass; `after`: on the migrated model, with what its quantizers would do.
  void measure_ranges(const Model& model, SiteReport& report, bool after) {
    for_each_site_input(model, sites_, samples_, ctx_,
                        [&](std::size_t s, const SiteActivations& x) {
                          ChannelStats stats = channel_stats(x, false, sites_[s].name);
                          SiteMeasurement& m = report.sites[s];
                          (after ? m.min_after : m.min_before) = std::move(stats.min);
                          (after ? m.max_after : m.max_before) = std::move(stats.max);
                          if (after) measure_site(sites_[s], x, m);
                        });
  }

  void measure_site(const Site& site, const SiteActivations& x, SiteMeasurement& m) const {
    const ActivationQuant& quant = (*input_quant_of(model_.graph, site.value()));
    Energy input, output, inputs_only, weights_only;
    double outside = 0, all = 0;
    const std::vector<Range> bounds = representable(quant, x.x.front()->cols());
    std::map<int, Tensor> dequantized;  // by linear that reads the value
    for (const int n : site.linears)
      if (const Param& p = model_.param_of(n);
          p.quantized && base_of(model_.graph, model_.graph.node(n).in[0]) == site.value())
        dequantized[n] = dequantize(*p.quantized);
    for (std::size_t b = 0; b < x.x.size(); ++b) {
      const Tensor& exact = *x.x[b];
      Tensor quantized = Tensor::f32(exact.shape());
      fake_quantize_activations(exact, quant, Rounding::kReciprocal, quantized.span(), ctx_);
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
  Divergences all_;
  std::vector<Divergences> spared_;  ///< by site
};

/// What the numbers suggest. Only what was measured on the whole model, and is outside the noise,
/// is advice.
class Advisor {
 public:
  Advisor(const Model& model, const Measurer& measurer, const SiteReportJob& job,
          SiteReport& report, ExecContext& ctx)
      : model_(model), measurer_(measurer), job_(job), report_(report), ctx_(ctx) {}

  void run(const Model& original) {
    if (job_.eval) {
      set_ = load_eval_set(*job_.eval, job_.eval_data, original);
      report_.float_metric = metric(original, make_float_ops(original), false);
      report_.metric = metric(model_, make_simulated_ops(model_, false, ctx_.isa), true);
    }

    leave_in_float();
    outlier_channels();
    for (const SiteMeasurement& m : report_.sites) clipping(m);

    for (const Advice& advice : report_.advice) {
      if (advice.arguments.empty() || !report_.command.empty() || job_.quantize_command.empty())
        continue;

      report_.command = job_.quantize_command;
      if (!advice.arguments.starts_with("--recipe"))
        report_.command += " --recipe " + job_.recipe_argument;
      report_.command += " " + advice.arguments;
    }
    decide();
  }

 private:
  double metric(const Model& model, OpTable ops, bool quantized) {
    const auto engine = make_step_model(model, std::move(ops), quantized);
    const MetricResult first = evaluate(*engine, nullptr, *job_.eval, set_, ctx_).front();
    report_.task = job_.eval->task + " " + first.metric;
    metric_name_ = first.metric;
    metric_samples_ = first.samples;
    return first.value;
  }

  /// The sites whose absence helps most, where that is more than noise.
  void leave_in_float() {
    std::vector<std::size_t> order(report_.sites.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return report_.sites[a].spared < report_.sites[b].spared;
    });

    for (std::size_t i = 0; i < std::min<std::size_t>(kTrials, order.size()); ++i) {
      const std::size_t s = order[i];
      if (!clearly_smaller(measurer_.spared(s), measurer_.all())) continue;

      const Site& site = measurer_.sites()[s];
      std::string text = "leave " + report_.sites[s].name + " in float: divergence " +
                         format_text("%.3g", report_.all) + " -> " +
                         format_text("%.3g", report_.sites[s].spared);
      if (job_.eval) {
        const double there = metric(model_, measurer_.ops_except(site.linears), true);
        most_regained_ = std::max(most_regained_, there - report_.metric);
        text += ", " + format_text("%+.2f", there - report_.metric) + " points";
      }
      report_.advice.push_back({std::move(text), ignore_arguments(site)});
    }
  }

  std::string ignore_arguments(const Site& site) const {
    std::vector<std::string> modules;
    for (const int n : site.linears) {
      const std::string& module = model_.param_of(n).module;
      if (std::find(modules.begin(), modules.end(), module) == modules.end())
        modules.push_back(module);
    }

    std::string arguments;
    for (const std::string& module : modules)
      arguments += (arguments.empty() ? "--ignore " : " --ignore ") + module;
    return arguments;
  }

  /// Channels far above all others, behind the migration.
  void outlier_channels() {
    std::string found;
    int sites = 0;
    for (const SiteMeasurement& m : report_.sites) {
      std::vector<double> extremes;
      for (std::size_t j = 0; j < m.max_after.size(); ++j)
        extremes.push_back(static_cast<double>(std::max(m.max_after[j], -m.min_after[j])));
      const auto largest = std::max_element(extremes.begin(), extremes.end());
      const auto channel = largest - extremes.begin();
      const double value = *largest;

      std::vector<double> sorted = extremes;
      std::sort(sorted.begin(), sorted.end());
      const double peers =
          sorted[static_cast<std::size_t>(0.99 * static_cast<double>(sorted.size() - 1))];
      if (value < 4 * peers) continue;

      ++sites;
      if (found.empty())
        found = m.name + ": channel " + std::to_string(channel) + " reaches " +
                format_text("%.1f", value) + ", 99 % of the others stay below " +
                format_text("%.1f", peers);
    }
    if (found.empty()) return;

    if (sites > 1) found += format_text(" (and so in %d sites more)", sites - 1);
    const bool splits = std::any_of(job_.recipe.passes.begin(), job_.recipe.passes.end(),
                                    [](const PassParams& pass) {
                                      const auto split = pass.values().find("split");
                                      return split != pass.values().end() && split->second != "0";
                                    });
    if (splits)
      report_.advice.push_back({found + "; the recipe spreads channels already", ""});
    else
      report_.advice.push_back(
          {found +
               "; the recipe best spreads such channels over columns of their own (not tried here)",
           "--recipe best"});
  }

  void clipping(const SiteMeasurement& m) {
    constexpr double kShare =
        5e-3;  // means of batch extrema leave out up to 0.4 % (all-MiniLM-L6-v2)
    if (m.clipped < kShare) return;
    report_.advice.push_back({m.name + ": " + format_text("%.2f", 100 * m.clipped) +
                                  " % of the held-out inputs lie outside the quantizer's range; "
                                  "calibrate with more samples, or check "
                                  "that clipping is meant",
                              ""});
  }

  void decide() {
    const std::string what = report_.recipe + " " + report_.scheme;
    std::string loss =
        "The outputs diverge from the float model's by " + format_text("%.3g", report_.all);
    if (job_.eval) {
      const double drop = report_.float_metric - report_.metric;
      const std::optional<double> noise =
          noise_of_metric(metric_name_, report_.float_metric, metric_samples_);
      const std::string figures = report_.task + format_text(" is %.2f, in float %.2f",
                                                             report_.metric, report_.float_metric);

      // Two results on the same rows differ by less than two on others, so a loss of which one site
      // gives half back is no noise.
      const bool negligible = noise && drop <= *noise / 4;
      const bool unexplained = noise && drop <= *noise && most_regained_ < drop / 2;
      if (negligible || unexplained) {
        report_.verdict = "Ship " + what + " as it is: " + figures +
                          format_text(", and below %.1f points a difference on %lld rows is noise.",
                                      *noise, static_cast<long long>(metric_samples_));
        return;
      }
      loss = figures;
      loss.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(loss.front())));
    }

    constexpr double kUnnoticed =
        1e-3;  // no task of docs/accuracy.md tells a divergence five times as large from noise
    if (!job_.eval && report_.all < kUnnoticed) {
      report_.verdict =
          "Ship " + what + " as it is: " + loss + ", too little for a task to notice.";
      report_.command.clear();
      return;
    }

    const bool best_may_help =
        std::any_of(report_.advice.begin(), report_.advice.end(),
                    [](const Advice& advice) { return advice.arguments == "--recipe best"; });
    if (!report_.advice.empty() && report_.advice.front().arguments.starts_with("--ignore"))
      report_.verdict = loss + "; " + report_.advice.front().text +
                        (best_may_help ? ", or try --recipe best." : ".");
    else if (!report_.command.empty())
      report_.verdict =
          loss + ", and no single site explains it; try " + report_.advice.front().arguments + ".";
    else
      report_.verdict =
          loss + ", and no single site explains it: take more bits where that is too much.";
  }

  const Model& model_;
  const Measurer& measurer_;
  const SiteReportJob& job_;
  SiteReport& report_;
  ExecContext& ctx_;
  EvalSet set_;
  std::string metric_name_;
  std::int64_t metric_samples_ = 0;
  double most_regained_ = 0;  ///< points, by leaving one site in float
};

}  // namespace

std::optional<double> noise_of_metric(const std::string& metric, double value,
                                      std::int64_t samples) {
  if (samples < 2) return std::nullopt;

  const double n = static_cast<double>(samples);
  const double share = value / 100;
  for (const char* of_shares : {"accuracy", "accuracy_norm", "exact_match", "top1"})
    if (metric == of_shares) return 200 * std::sqrt(std::max(0.0, share * (1 - share)) / n);
  for (const char* correlation : {"spearman", "pearson", "matthews"})
    if (metric == correlation) return 200 * (1 - share * share) / std::sqrt(n - 1);
  return std::nullopt;
}

SiteReport run_site_report_job(const SiteReportJob& job, ExecContext& ctx) {
  keep_inputs(job.page, {job.model_dir.path(), job.calibration.data.file, job.eval_data.file});
  OutputFile page(job.page);  // an unwritable one must not cost a calibration
  const Model original = load_model(Checkpoint::open(job.model_dir));
  CalibrationChoice both = job.calibration;
  both.num_samples += job.num_samples;
  std::vector<TokenSequence> all = load_samples(both, original);
  job.model_dir.check_accepted();
  // Where there are few rows, a third of them is kept for measuring.
  const std::size_t measured = std::min(static_cast<std::size_t>(job.num_samples), all.size() / 3);
  require(measured > 0, ErrorCode::kInvalidInput, job.calibration.data.file.string(), ": ",
          all.size(), " samples are too few to calibrate on some and measure on others");
  const std::vector<TokenSequence> held(all.end() - static_cast<std::ptrdiff_t>(measured),
                                        all.end());
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
  Json findings = Json::array();
  for (const Advice& a : advice) findings.push_back({{"text", a.text}, {"arguments", a.arguments}});
  Json json = {
      {"model", model},     {"recipe", recipe},  {"scheme", scheme}, {"divergence", divergence},
      {"samples", samples}, {"quantized", all},  {"sites", rows},    {"verdict", verdict},
      {"advice", findings}, {"command", command}};
  if (!task.empty())
    json["metric"] = {{"name", task}, {"float", float_metric}, {"quantized", metric}};
  return json;
}

}  // namespace quell
