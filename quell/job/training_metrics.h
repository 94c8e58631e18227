// What a run of training writes down of itself: metrics.jsonl, one JSON object a line.
//
//   {"step": 10, "loss": 1.2, "logits": 0.8, "gradient_norm": 3.1, "learning_rate": 2e-05}
//   {"step": 200, "eval": {"spearman": 81.2}, "diagnostics": {"attention_maps.ranking_loss": 0.1}}
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace quell {

struct MetricPoint {
  std::int64_t step = 0;
  double value = 0;  ///< NaN where the run had no finite number (JSON: null)
};

/// In order of steps, never empty.
using MetricCurve = std::vector<MetricPoint>;

/// The three places of a line that hold numbers.
enum class MetricGroup { kTraining, kEvaluated, kDiagnostics };

/// Which values of a metric are the good ones; of a learning rate, say, neither.
enum class Better { kNeither, kSmaller, kLarger };

/// Losses, their terms, perplexities, divergences and bits are better when small, whatever else is
/// evaluated when large. Of learning rates, gradient norms and other diagnostics nobody knows.
Better better_values(MetricGroup group, std::string_view metric);

/// The first of the best ones; null where none is finite or nothing is better.
const MetricPoint* best_point(const MetricCurve& curve, Better better);

inline constexpr const char* kLossMetric = "loss";
inline constexpr const char* kLearningRateMetric = "learning_rate";
inline constexpr const char* kGradientNormMetric = "gradient_norm";

struct TrainingMetrics {
  std::string run;             ///< its name, for people
  std::filesystem::path file;  ///< metrics.jsonl
  std::int64_t last_step = 0;
  bool torn = false;  ///< the last line was half written and is left out
  /// Curves by name. Training: the loss, its terms, the learning rate, the gradient norm.
  std::map<MetricGroup, std::map<std::string, MetricCurve>> curves;

  /// Null where the run has none.
  const MetricCurve* curve(MetricGroup group, const std::string& metric) const;
};

/// Reads the text of a metrics.jsonl; `source` names it in messages. A last line without its end
/// that is no JSON is what a killed run left, and is left out. Every other line that is damaged
/// throws Error(kInvalidInput) with its number, and so does a text without any metrics.
TrainingMetrics parse_training_metrics(std::string_view text, const std::string& source);

/// Of runs that are each named by the folder they work in (OUT.training), by the model they made
/// (OUT, with training/metrics.jsonl) or by the file. Runs are called OUT, or as `runs` has them
/// where two would be called the same. Throws Error(kIo) where a file is missing, Error(kUsage)
/// where a run comes twice, and as parse_training_metrics.
std::vector<TrainingMetrics> read_training_runs(const std::vector<std::filesystem::path>& runs);

}  // namespace quell
