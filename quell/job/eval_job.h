// `quell eval`: one model, one task, one engine.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "quell/io/model_directory.h"
#include "quell/job/report.h"

namespace quell {

struct EvalJob {
  ModelDirectory model_dir;
  std::string engine;                   ///< empty: integer for quantized models, float otherwise
  std::filesystem::path reference_dir;  ///< empty: none
  DataChoice data;
  EvalOptions options;
  std::int64_t max_new_tokens = 128;  ///< summarization
};

/// The task that generates: ROUGE of summaries (.jsonl with "document" and "summary").
inline constexpr const char* kSummarization = "summarization";

Report run_eval_job(const EvalJob& job, ExecContext& ctx);

}  // namespace quell
