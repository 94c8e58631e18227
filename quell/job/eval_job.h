// `quell eval`: one model, one task, one engine.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "quell/job/report.h"

namespace quell {

struct DataChoice {
  std::filesystem::path file;
  ColumnChoice columns;
};

struct EvalJob {
  std::filesystem::path model_dir;
  std::string engine;                   ///< empty: integer for quantized models, float otherwise
  std::filesystem::path reference_dir;  ///< empty: none
  DataChoice data;
  EvalOptions options;
};

Report run_eval_job(const EvalJob& job, ExecContext& ctx);

/// The tokenizer of `dir`, only where `data` holds text.
std::unique_ptr<Tokenizer> open_tokenizer_for(const Dataset& data, const std::filesystem::path& dir);

}  // namespace quell
