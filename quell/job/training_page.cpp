#include "quell/job/training_page.h"

#include <cmath>
#include <map>
#include <set>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"
#include "quell/job/html_page.h"
#include "quell/job/line_chart.h"
#include "quell/job/outputs.h"
#include "quell/job/report.h"

namespace quell {
namespace {

constexpr const char* kTrainingStyle = R"(
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(440px,100%),1fr));gap:20px}
figure{margin:0;min-width:0;border:1px solid var(--line);border-radius:8px;padding:12px 14px}
figcaption{font-weight:600;margin-bottom:4px;overflow-wrap:anywhere}figure table{margin-top:6px}figure tr:last-child td{border-bottom:0}
)";

/// A curve of a chart, and the line that says its numbers.
struct PanelCurve {
  std::string name;
  const MetricCurve* points;
  std::size_t color = 0;
  bool thin = false;
};

/// One chart with its numbers.
struct Panel {
  std::string title;
  MetricGroup group = MetricGroup::kTraining;
  Better better = Better::kNeither;
  std::vector<PanelCurve> curves = {};
};

/// Names that some run has a curve of, in order.
std::set<std::string> metric_names(const TrainingReport& report, MetricGroup group) {
  std::set<std::string> names;
  for (const TrainingMetrics& run : report.runs)
    if (const auto found = run.curves.find(group); found != run.curves.end())
      for (const auto& [name, curve] : found->second) names.insert(name);
  return names;
}

std::set<std::string> terms_of_loss(const TrainingReport& report) {
  std::set<std::string> names = metric_names(report, MetricGroup::kTraining);
  for (const char* other : {kLossMetric, kLearningRateMetric, kGradientNormMetric})
    names.erase(other);
  return names;
}

/// The same metric of all runs.
Panel panel_of(const TrainingReport& report, MetricGroup group, const std::string& metric) {
  Panel panel{.title = metric, .group = group, .better = better_values(group, metric)};
  for (std::size_t i = 0; i < report.runs.size(); ++i)
    if (const MetricCurve* points = report.runs[i].curve(group, metric))
      panel.curves.push_back({.name = report.runs[i].run, .points = points, .color = i});
  return panel;
}

/// Of one run the terms lie beside their sum; of several, each has a chart of its own.
std::vector<Panel> panels_of_loss(const TrainingReport& report) {
  std::vector<Panel> panels = {panel_of(report, MetricGroup::kTraining, kLossMetric)};
  const std::set<std::string> terms = terms_of_loss(report);
  if (report.runs.size() > 1) {
    for (const std::string& term : terms) {
      panels.push_back(panel_of(report, MetricGroup::kTraining, term));
      panels.back().title = str(kLossMetric, ": ", term);
    }
    return panels;
  }

  std::vector<PanelCurve>& curves = panels.front().curves;
  for (PanelCurve& sum : curves) sum.name = kLossMetric;
  std::size_t color = 0;
  for (const std::string& term : terms)
    curves.push_back({.name = term,
                      .points = report.runs.front().curve(MetricGroup::kTraining, term),
                      .color = ++color,
                      .thin = true});
  return panels;
}

std::vector<Panel> panels_of_group(const TrainingReport& report, MetricGroup group) {
  std::vector<Panel> panels;
  for (const std::string& metric : metric_names(report, group))
    panels.push_back(panel_of(report, group, metric));
  return panels;
}

std::string value_at_step(const MetricPoint& point, bool bold = false) {
  const std::string value = short_number(point.value);
  return (bold ? "<b>" + value + "</b>" : value) +
         format_text(" <span class=soft>at %lld</span>", static_cast<long long>(point.step));
}

/// The legend, which has the numbers too.
std::string panel_table(const Panel& panel) {
  const bool has_best = panel.better != Better::kNeither;
  std::string html = "<table><tr><th></th><th>last</th>";
  if (has_best) html += panel.better == Better::kLarger ? "<th>largest</th>" : "<th>smallest</th>";
  html += "</tr>\n";
  for (const PanelCurve& curve : panel.curves) {
    html += "<tr><td>" + line_chart_key(curve.color, curve.thin) + escape_html(curve.name) +
            "</td><td>" + short_number(curve.points->back().value) + "</td>";
    const MetricPoint* best = best_point(*curve.points, panel.better);
    if (has_best) html += "<td>" + (best ? value_at_step(*best) : std::string("-")) + "</td>";
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

std::string panel_figure(const Panel& panel) {
  LineChart chart{.title = panel.title};
  // Norms of gradients have no good values, but spikes.
  chart.may_be_logarithmic = panel.better == Better::kSmaller || panel.title == kGradientNormMetric;
  for (const PanelCurve& curve : panel.curves) {
    ChartCurve drawn{.name = curve.name, .color = curve.color, .thin = curve.thin};
    for (const MetricPoint& point : *curve.points)
      drawn.points.push_back({static_cast<double>(point.step), point.value});
    const MetricPoint* best = best_point(*curve.points, panel.better);
    if (panel.group == MetricGroup::kEvaluated && best) {
      drawn.ring = {static_cast<double>(best->step), best->value};
      if (panel.curves.size() == 1) drawn.ring_label = "best: " + short_number(best->value);
    }
    chart.curves.push_back(std::move(drawn));
  }
  return "<figure><figcaption>" + escape_html(panel.title) + "</figcaption>\n" +
         line_chart_svg(chart) + panel_table(panel) + "</figure>\n";
}

std::string section(const std::string& title, const std::string& remark,
                    const std::vector<Panel>& panels) {
  std::string figures;
  for (const Panel& panel : panels)
    if (!panel.curves.empty()) figures += panel_figure(panel);
  if (figures.empty()) return "";

  const std::string words = remark.empty() ? "" : "<p class=soft>" + remark + "</p>\n";
  return "<h2>" + title + "</h2>\n" + words + "<div class=charts>\n" + figures + "</div>\n";
}

/// The best value that any run has; NaN where none has one.
double best_of_runs(const Panel& panel) {
  MetricCurve bests;
  for (const PanelCurve& curve : panel.curves)
    if (const MetricPoint* best = best_point(*curve.points, panel.better)) bests.push_back(*best);
  const MetricPoint* best = best_point(bests, panel.better);
  return best ? best->value : std::nan("");
}

/// One row a run: where it is and the best of what was evaluated.
std::string overview(const TrainingReport& report) {
  const std::vector<Panel> evaluated = panels_of_group(report, MetricGroup::kEvaluated);
  std::string html = "<div class=wide><table><tr><th>run</th><th>steps</th><th>last loss</th>";
  for (const Panel& panel : evaluated) html += "<th>best " + escape_html(panel.title) + "</th>";
  html += "</tr>\n";

  for (const TrainingMetrics& run : report.runs) {
    const MetricCurve* loss = run.curve(MetricGroup::kTraining, kLossMetric);
    html += "<tr><td>" + escape_html(run.run) +
            format_text("</td><td>%lld</td><td>", static_cast<long long>(run.last_step)) +
            (loss ? short_number(loss->back().value) : "-") + "</td>";
    for (const Panel& panel : evaluated) {
      const MetricCurve* curve = run.curve(MetricGroup::kEvaluated, panel.title);
      const MetricPoint* best = curve ? best_point(*curve, panel.better) : nullptr;
      const bool wins = best && report.runs.size() > 1 && best->value == best_of_runs(panel);
      html += "<td>" + (best ? value_at_step(*best, wins) : std::string("-")) + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

std::string sources(const TrainingReport& report) {
  std::string html = "<p class=soft>";
  for (const TrainingMetrics& run : report.runs) {
    html += (html.ends_with(">") ? "" : "<br>\n") + escape_html(run.file.string());
    if (run.torn) html += ", without its last line, which is half written";
  }
  return html + "</p>\n";
}

std::string page_title(const TrainingReport& report) {
  std::string names;
  for (const TrainingMetrics& run : report.runs) names += (names.empty() ? "" : ", ") + run.run;
  return "Training: " + names;
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json curve_json(const MetricCurve& curve, Better better) {
  Json json = {{"last", number_or_null(curve.back().value)}, {"last_step", curve.back().step}};
  if (const MetricPoint* best = best_point(curve, better)) {
    json["best"] = best->value;
    json["best_step"] = best->step;
  }
  return json;
}

}  // namespace

Json TrainingReport::to_json() const {
  const std::map<MetricGroup, const char*> names = {{MetricGroup::kTraining, "training"},
                                                    {MetricGroup::kEvaluated, "evaluated"},
                                                    {MetricGroup::kDiagnostics, "diagnostics"}};
  Json list = Json::array();
  for (const TrainingMetrics& run : runs) {
    Json json = {{"run", run.run},
                 {"file", run.file.string()},
                 {"steps", run.last_step},
                 {"torn", run.torn}};
    for (const auto& [group, curves] : run.curves)
      for (const auto& [metric, curve] : curves)
        json[names.at(group)][metric] = curve_json(curve, better_values(group, metric));
    list.push_back(json);
  }
  return {{"runs", list}};
}

std::string TrainingReport::to_text() const {
  std::string text;
  for (const TrainingMetrics& run : runs) {
    text += str(run.run, ": step ", run.last_step);
    if (const MetricCurve* loss = run.curve(MetricGroup::kTraining, kLossMetric))
      text += ", loss " + short_number(loss->back().value);
    const auto evaluated = run.curves.find(MetricGroup::kEvaluated);
    if (evaluated != run.curves.end())
      for (const auto& [metric, curve] : evaluated->second)
        if (const auto* best = best_point(curve, better_values(MetricGroup::kEvaluated, metric)))
          text += str(", best ", metric, " ", short_number(best->value), " at step ", best->step);
    text += "\n";
  }
  return text;
}

std::string TrainingReport::to_html() const {
  std::string body = sources(*this) + overview(*this);
  const bool has_terms = !terms_of_loss(*this).empty();
  body += section("Loss", has_terms ? "Terms are drawn before they are weighted." : "",
                  panels_of_loss(*this));
  body +=
      section("Evaluation",
              "The ring is the best value: the largest, of perplexities and losses the smallest.",
              panels_of_group(*this, MetricGroup::kEvaluated));
  body += section("Learning rate and gradients", "",
                  {panel_of(*this, MetricGroup::kTraining, kLearningRateMetric),
                   panel_of(*this, MetricGroup::kTraining, kGradientNormMetric)});
  body += section("Diagnostics", "", panels_of_group(*this, MetricGroup::kDiagnostics));
  return html_page(page_title(*this), line_chart_style() + kTrainingStyle, body);
}

TrainingReport run_training_report_job(const TrainingReportJob& job) {
  const TrainingReport report{read_training_runs(job.runs)};
  std::vector<std::filesystem::path> files;
  for (const TrainingMetrics& run : report.runs) files.push_back(run.file);
  keep_inputs(job.page, files);

  OutputFile page(job.page);
  const std::string html = report.to_html();
  page.write(html.data(), html.size());
  page.commit();
  return report;
}

}  // namespace quell
