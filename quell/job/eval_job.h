// `quell eval`: one model, one task, one engine.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "quell/eval/image_classification.h"
#include "quell/io/model_directory.h"
#include "quell/job/report.h"

namespace quell {

struct EvalJob {
  ModelDirectory model_dir;
  std::string engine;                   ///< empty: integer for quantized models, float otherwise
  std::filesystem::path reference_dir;  ///< empty: none
  DataChoice data;
  EvalOptions options;
  std::int64_t max_new_tokens = 128;   ///< summarization
  std::filesystem::path image_labels;  ///< image classification; empty: where they belong
};

/// The task that generates: ROUGE of summaries (.jsonl with "document" and "summary").
inline constexpr const char* kSummarization = "summarization";
/// Labelled images: top-1 and top-5 (eval/image_classification.h).
inline constexpr const char* kImageClassification = "image-classification";

/// Labelled frames: TuSimple's accuracy, FP and FN (eval/lane_detection.h).
inline constexpr const char* kLaneDetection = "lane-detection";

/// Those of eval/ and the ones that this job puts together: summaries and images.
std::vector<std::string> eval_task_names();

/// Labelled images of a task, prepared as the model's files say.
struct EvalImages {
  std::unique_ptr<ImageSource> source;
  ImageEvalSet set;  ///< of `source`
};
/// `labels`: empty where they lie where they belong. Throws as open_images and read_preprocessing.
EvalImages open_eval_images(const DataChoice& data, const std::filesystem::path& labels,
                            const ModelDirectory& model_dir, const EvalOptions& options);

Report run_eval_job(const EvalJob& job, ExecContext& ctx);

}  // namespace quell
