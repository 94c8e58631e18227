#include "quell/job/site_report.h"
#include "quell/job/calibration_samples.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/compress/compress.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"
#include "quell/job/model_options.h"
#include "quell/job/outputs.h"
#include "quell/job/site_advisor.h"
#include "quell/job/site_measurer.h"
#include "quell/model/fold_batch_norm.h"

namespace quell {
namespace {

constexpr std::size_t kShownInputs = 10;

std::vector<DivergentInput> divergent_inputs(const SiteMeasurer& measurer,
                                             const CalibrationSamples& samples, std::int64_t begin,
                                             const Model& model, const SiteReportJob& job) {
  HeldOut held_out{.samples = samples,
                   .begin = begin,
                   .float_classes = measurer.float_classes(),
                   .quantized_classes = measurer.quantized_classes()};
  for (std::size_t i = 0; i < measurer.all().sums.size(); ++i)
    held_out.divergences.push_back(measurer.all().of(i));
  return most_divergent(held_out, kShownInputs, model, job.calibration.data.file);
}

}  // namespace

SiteReport run_site_report_job(const SiteReportJob& job, ExecContext& ctx) {
  keep_inputs(job.page, {job.model_dir.path(), job.calibration.data.file, job.eval_data.file,
                         job.eval_labels});
  OutputFile page(job.page);  // an unwritable one must not cost a calibration
  Model original = load_model(Checkpoint::open(job.model_dir));
  CalibrationChoice both = job.calibration;
  both.num_samples += job.num_samples;
  const CalibrationSamples all = load_calibration(both, original, ctx.pool);
  job.model_dir.check_accepted();
  // Where there are few rows, a third of them is kept for measuring.
  const std::int64_t measured = std::min(job.num_samples, all.size() / 3);
  require(measured > 0, ErrorCode::kInvalidInput, job.calibration.data.file.string(), ": ",
          all.size(), " samples are too few to calibrate on some and measure on others");
  const std::int64_t used = all.size() - measured;
  const std::vector<TokenBatch> calibration = all.batches(original, 0, used, job.recipe.batch_size);
  const std::vector<TokenBatch> samples =
      all.batches(original, used, all.size(), job.recipe.batch_size);
  const auto task = job.eval ? std::make_unique<ReportTask>(job, original) : nullptr;
  Model model = load_model(Checkpoint::open(job.model_dir));
  warn_of_unused(model, job.recipe);
  compress(model, calibration, job.recipe, ctx);
  // So that the values of both are the same ones.
  if (!model.folded_batch_norms.empty()) fold_batch_norms(original);

  SiteReport report;
  const std::filesystem::path& dir = job.model_dir.path();
  report.model = (dir.has_filename() ? dir : dir.parent_path()).filename().string();
  report.recipe = job.recipe.name;
  report.scheme = scheme_of(job.recipe);
  report.isa = isa_name(ctx.isa);
  report.calibration_samples = used;
  report.samples = measured;
  for (std::size_t i = static_cast<std::size_t>(used); i < all.sequences.size(); ++i)
    report.tokens += static_cast<std::int64_t>(all.sequences[i].ids.size());
  SiteMeasurer measurer(original, model, job.recipe, samples, ctx);
  measurer.run(report);
  report.inputs = divergent_inputs(measurer, all, used, model, job);
  add_advice(original, model, measurer, job, task.get(), report, ctx);
  const std::string html = report.to_html();
  page.write(html.data(), html.size());
  page.commit();
  return report;
}

namespace {

float smallest_of(const std::vector<float>& values) {
  return *std::min_element(values.begin(), values.end());
}

float largest_of(const std::vector<float>& values) {
  return *std::max_element(values.begin(), values.end());
}

/// Without the thumbnail, which is for the page.
Json input_json(const DivergentInput& input) {
  Json json = {{"input", input.name}, {"divergence", input.divergence}};
  if (!input.text.empty()) json["text"] = input.text;
  if (!input.has_classes) return json;

  json["float_class"] = input.float_class;
  json["quantized_class"] = input.quantized_class;
  if (!input.float_label.empty()) json["float_label"] = input.float_label;
  if (!input.quantized_label.empty()) json["quantized_label"] = input.quantized_label;
  return json;
}

}  // namespace

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
                    {"min", smallest_of(m.min_before)},
                    {"max", largest_of(m.max_before)},
                    {"quantized_min", smallest_of(m.min_after)},
                    {"quantized_max", largest_of(m.max_after)},
                    {"divergence_alone", m.alone},
                    {"divergence_without", m.spared}});
  Json findings = Json::array();
  for (const Advice& a : advice) findings.push_back({{"text", a.text}, {"arguments", a.arguments}});
  Json json = {
      {"model", model},     {"recipe", recipe},  {"scheme", scheme}, {"divergence", divergence},
      {"samples", samples}, {"quantized", all},  {"sites", rows},    {"verdict", verdict},
      {"advice", findings}, {"command", command}};
  json["inputs"] = Json::array();
  for (const DivergentInput& input : inputs) json["inputs"].push_back(input_json(input));
  if (has_classes) json["other_classes"] = other_classes;
  if (!task.empty())
    json["metric"] = {{"name", task}, {"float", float_metric}, {"quantized", metric}};
  return json;
}

}  // namespace quell
