#include "quell/job/site_advisor.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/job/report.h"

namespace quell {

ReportTask::ReportTask(const SiteReportJob& job, const Model& original) : options_(*job.eval) {
  const bool of_images = original.reads_images();
  require((options_.task == kImageClassification) == of_images, ErrorCode::kUsage, "--eval-task ",
          options_.task, ": ", job.model_dir.string(), of_images ? " reads images" : " reads text");
  if (!of_images) {
    texts_ = load_eval_set(options_, job.eval_data, original);
    return;
  }
  images_.emplace(open_eval_images(job.eval_data, job.eval_labels, job.model_dir, options_));
}

MetricResult ReportTask::measure(const ForwardModel& model, ExecContext& ctx) const {
  if (!images_) return evaluate(model, nullptr, options_, texts_, ctx).front();
  return evaluate_images(model, nullptr, images_->set, ctx).front();
}

namespace {

constexpr int kTrials = 3;  // remedies that are tried on the whole model

/// What the numbers suggest. Only what was measured on the whole model, and is outside the noise,
/// is advice.
class Advisor {
 public:
  Advisor(const Model& model, const SiteMeasurer& measurer, const SiteReportJob& job,
          const ReportTask* task, SiteReport& report, ExecContext& ctx)
      : model_(model), measurer_(measurer), job_(job), task_(task), report_(report), ctx_(ctx) {}

  void run(const Model& original) {
    if (task_) {
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
    const MetricResult first = task_->measure(*engine, ctx_);
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
      if (task_) {
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
      if (value <= 4 * peers) continue;  // all 0: what the first decoder layer of a DETR reads

      ++sites;
      if (found.empty())
        found = m.name + ": channel " + std::to_string(channel) + " reaches " +
                format_text("%.1f", value) + ", 99 % of the others stay below " +
                format_text("%.1f", peers);
    }
    if (found.empty()) return;

    if (sites > 1) found += format_text(" (and so in %d sites more)", sites - 1);
    report_.advice.push_back(is_convolutional(model_.graph) ? about_equalization(found)
                                                            : about_columns(found));
  }

  Advice about_columns(const std::string& found) const {
    const bool splits = std::any_of(job_.recipe.passes.begin(), job_.recipe.passes.end(),
                                    [](const PassParams& pass) {
                                      const auto split = pass.values().find("split");
                                      return split != pass.values().end() && split->second != "0";
                                    });
    if (splits) return {found + "; the recipe spreads channels already", ""};
    return {
        found +
            "; the recipe best spreads such channels over columns of their own (not tried here)",
        "--recipe best"};
  }

  Advice about_equalization(const std::string& found) const {
    const bool equalizes = std::any_of(
        job_.recipe.passes.begin(), job_.recipe.passes.end(),
        [](const PassParams& pass) { return pass.name() == "cross_layer_equalization"; });
    if (equalizes) return {found + "; the recipe equalizes channels already", ""};
    return {found + "; the pass cross_layer_equalization evens such channels out (not tried here)",
            ""};
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
    if (task_) {
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
    if (!task_ && report_.all < kUnnoticed) {
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
  const SiteMeasurer& measurer_;
  const SiteReportJob& job_;
  const ReportTask* task_;  ///< null: none
  SiteReport& report_;
  ExecContext& ctx_;
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
  for (const char* of_shares : {"accuracy", "accuracy_norm", "exact_match", "top-1"})
    if (metric == of_shares) return 200 * std::sqrt(std::max(0.0, share * (1 - share)) / n);
  for (const char* correlation : {"spearman", "pearson", "matthews"})
    if (metric == correlation) return 200 * (1 - share * share) / std::sqrt(n - 1);
  return std::nullopt;
}

void add_advice(const Model& original, const Model& model, const SiteMeasurer& measurer,
                const SiteReportJob& job, const ReportTask* task, SiteReport& report,
                ExecContext& ctx) {
  Advisor(model, measurer, job, task, report, ctx).run(original);
}

}  // namespace quell
