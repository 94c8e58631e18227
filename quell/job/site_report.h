// `quell report`: which layer hurts. Quantizes a model in memory and measures every site on samples
// that calibration has not seen.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "quell/job/divergence.h"
#include "quell/job/divergent_inputs.h"
#include "quell/job/quantize_job.h"

namespace quell {

struct SiteReportJob {
  ModelDirectory model_dir;
  std::filesystem::path page;  ///< the page is written when all is measured
  Recipe recipe;
  CalibrationChoice calibration;
  std::int64_t num_samples = 64;    ///< to measure on, behind those of the calibration
  std::optional<EvalOptions> eval;  ///< advice in points of this task too
  DataChoice eval_data;
  std::filesystem::path eval_labels;  ///< image classification; empty: where they belong
  /// The command that quantizes as the report does ("quell quantize MODEL OUT ..."); what advice
  /// adds is appended to it. Empty: none.
  std::string quantize_command;
  std::string recipe_argument;  ///< name or file of the recipe, which that command does not name
};

/// Points below which a difference of `metric` (0 to 100) on `samples` rows says nothing: two
/// standard errors. Nothing for metrics without a formula for it.
std::optional<double> noise_of_metric(const std::string& metric, double value,
                                      std::int64_t samples);

/// One finding.
struct Advice {
  std::string text;       ///< what was measured
  std::string arguments;  ///< of `quell quantize`, that carry it out; empty: nothing to paste
};

/// One site, measured on the held-out samples. SQNR in dB: 10 log10(sum x^2 / sum (x - x_q)^2).
struct SiteMeasurement {
  std::string name, kernel;
  int weight_bits = 0, input_bits = 0;
  std::int64_t channels = 0, columns = 0;
  std::vector<float> min_before, max_before;  ///< [channels], of the original model
  std::vector<float> min_after, max_after;    ///< [columns], as the quantizer reads them
  double input_sqnr = 0, weight_sqnr = 0, output_sqnr = 0;
  double inputs_only_sqnr = 0, weights_only_sqnr = 0;  ///< of the output, one side quantized
  double clipped = 0;  ///< share of the inputs outside the quantizer's range; static quantizers
  double alone = 0;    ///< divergence where only this site is quantized
  double spared = 0;   ///< divergence where all but this site is
};

struct SiteReport {
  std::string model, recipe, scheme, isa, divergence;  ///< what `divergence` means, in words
  std::int64_t calibration_samples = 0, samples = 0, tokens = 0;
  double all = 0;  ///< divergence of the whole quantized model
  std::vector<SiteMeasurement> sites;
  std::vector<DivergentInput> inputs;  ///< the ten on which float and quantized disagree most
  bool has_classes = false;            ///< of the samples, as the outputs say
  std::int64_t other_classes = 0;      ///< samples whose class quantization changes
  std::string verdict;                 ///< one sentence: what to do
  std::vector<Advice> advice;          ///< the one that helps most first
  std::string command;                 ///< to paste, where some advice has arguments
  std::string task;                    ///< empty: none
  double float_metric = 0, metric = 0;

  Json to_json() const;
  /// A page that needs no other file and no network: inline SVG and CSS.
  std::string to_html() const;
};

SiteReport run_site_report_job(const SiteReportJob& job, ExecContext& ctx);

}  // namespace quell
