#include "quell/job/training_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"

namespace quell {
namespace fs = std::filesystem;

namespace {

constexpr const char* kMetricsFile = "metrics.jsonl";
constexpr const char* kFolderInModel = "training";
constexpr const char* kRunningSuffix = ".training";

/// A JSON object; null where the text is none.
Json object_of(std::string_view text) {
  try {
    Json line = parse_json(text, "");
    return line.is_object() ? line : Json();
  } catch (const Error&) {  // its text counts lines of this line, which would mislead
    return {};
  }
}

std::int64_t step_of(const Json& line, const std::string& where) {
  try {
    return json_int(line, "step", 0, std::numeric_limits<std::int64_t>::max());
  } catch (const Error& e) {
    throw Error(ErrorCode::kInvalidInput, where + ": " + e.what());
  }
}

class MetricsReader {
 public:
  void read_line(const Json& line, const std::string& where) {
    const std::int64_t step = step_of(line, where);
    require(step >= metrics_.last_step, ErrorCode::kInvalidInput, where, ": step ", step,
            " comes behind step ", metrics_.last_step, "; are these lines of two runs?");
    metrics_.last_step = step;

    for (const auto& [key, value] : line.items()) {
      if (key == "step") continue;
      if (key == "eval") {
        add_object(MetricGroup::kEvaluated, key, value, where);
      } else if (key == "diagnostics") {
        add_object(MetricGroup::kDiagnostics, key, value, where);
      } else {
        add(MetricGroup::kTraining, key, value, where);
      }
    }
  }

  TrainingMetrics& metrics() { return metrics_; }

 private:
  void add_object(MetricGroup group, const std::string& key, const Json& object,
                  const std::string& where) {
    require(object.is_object(), ErrorCode::kInvalidInput, where, ": key \"", key,
            "\": expected an object of numbers");
    for (const auto& [name, value] : object.items()) add(group, name, value, where);
  }

  void add(MetricGroup group, const std::string& name, const Json& value,
           const std::string& where) {
    require(value.is_number() || value.is_null(), ErrorCode::kInvalidInput, where, ": key \"", name,
            "\": expected a number");
    const double number =
        value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
    metrics_.curves[group][name].push_back({metrics_.last_step, number});
  }

  TrainingMetrics metrics_;
};

fs::path metrics_file_of(const fs::path& run) {
  std::error_code ec;
  if (!fs::is_directory(run, ec)) return run;

  for (const fs::path& file : {run / kMetricsFile, run / kFolderInModel / kMetricsFile})
    if (fs::exists(file, ec)) return file;
  throw Error(ErrorCode::kIo,
              str(run.string(), ": holds neither ", kMetricsFile, " nor ", kFolderInModel, "/",
                  kMetricsFile, "; name the folder of a run, the model it made, or the file"));
}

/// OUT, for OUT.training/metrics.jsonl and OUT/training/metrics.jsonl; else the name of the folder,
/// or of a file that is called otherwise.
std::string run_name(const fs::path& file) {
  if (file.filename() != kMetricsFile) return file.stem().string();

  fs::path folder = fs::absolute(file).lexically_normal().parent_path();
  if (folder.filename() == kFolderInModel && folder.parent_path().has_filename())
    folder = folder.parent_path();
  return folder.extension() == kRunningSuffix ? folder.stem().string() : folder.filename().string();
}

/// Names that two runs share say nothing: what the user wrote does.
void tell_apart(std::vector<TrainingMetrics>& metrics, const std::vector<fs::path>& runs) {
  std::map<std::string, int> count;
  for (const TrainingMetrics& m : metrics) ++count[m.run];
  for (std::size_t i = 0; i < metrics.size(); ++i)
    if (count[metrics[i].run] > 1) metrics[i].run = runs[i].string();
}

void refuse_twins(const std::vector<fs::path>& files) {
  for (std::size_t i = 0; i < files.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      std::error_code ec;
      require(!fs::equivalent(files[i], files[j], ec), ErrorCode::kUsage, files[i].string(),
              ": the same run as ", files[j].string(), "; name each run once");
    }
}

}  // namespace

Better better_values(MetricGroup group, std::string_view metric) {
  if (group == MetricGroup::kTraining) {
    const bool of_loss = metric != kLearningRateMetric && metric != kGradientNormMetric;
    return of_loss ? Better::kSmaller : Better::kNeither;
  }

  for (const std::string_view small : {"loss", "perplexity", "kl", "bits_per_byte"})
    if (metric.ends_with(small)) return Better::kSmaller;
  return group == MetricGroup::kEvaluated ? Better::kLarger : Better::kNeither;
}

const MetricPoint* best_point(const MetricCurve& curve, Better better) {
  if (better == Better::kNeither) return nullptr;

  const double sign = better == Better::kLarger ? 1 : -1;
  const MetricPoint* best = nullptr;
  for (const MetricPoint& point : curve) {
    if (std::isnan(point.value)) continue;
    if (!best || sign * point.value > sign * best->value) best = &point;
  }
  return best;
}

const MetricCurve* TrainingMetrics::curve(MetricGroup group, const std::string& metric) const {
  const auto named = curves.find(group);
  if (named == curves.end()) return nullptr;
  const auto found = named->second.find(metric);
  return found == named->second.end() ? nullptr : &found->second;
}

TrainingMetrics parse_training_metrics(std::string_view text, const std::string& source) {
  MetricsReader reader;
  std::int64_t number = 0;
  while (!text.empty()) {
    ++number;
    const std::size_t end = text.find('\n');
    const bool ended = end != std::string_view::npos;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(ended ? end + 1 : text.size());
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;

    const std::string where = str(source, ":", number);
    const Json object = object_of(line);
    if (object.is_null() && !ended) {
      reader.metrics().torn = true;
      break;
    }
    require(!object.is_null(), ErrorCode::kInvalidInput, where,
            ": the line is damaged (no JSON object); take it out, or train again");
    reader.read_line(object, where);
  }

  TrainingMetrics metrics = std::move(reader.metrics());
  require(!metrics.curves.empty(), ErrorCode::kInvalidInput, source,
          ": holds no metrics yet; a run writes its first line after some steps");
  return metrics;
}

std::vector<TrainingMetrics> read_training_runs(const std::vector<fs::path>& runs) {
  std::vector<fs::path> files;
  for (const fs::path& run : runs) files.push_back(metrics_file_of(run));
  refuse_twins(files);

  std::vector<TrainingMetrics> metrics;
  for (const fs::path& file : files) {
    metrics.push_back(parse_training_metrics(read_text_file(file), file.string()));
    metrics.back().file = file;
    metrics.back().run = run_name(file);
  }
  tell_apart(metrics, runs);
  return metrics;
}

}  // namespace quell
