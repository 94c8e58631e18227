// `quell generate`: text from a prompt a line.
#pragma once

#include <filesystem>
#include <functional>
#include <istream>
#include <ostream>
#include <string>

#include "quell/base/exec_context.h"
#include "quell/runtime/generate.h"

namespace quell {

struct GenerateJob {
  ModelDirectory model_dir;
  std::string engine;  ///< empty: integer for quantized models, float otherwise
  std::string prompt;  ///< empty: lines of `in`
  GenerateOptions options;
  bool length_by_model = false;  ///< as many new tokens as the model's settings say, where they do
};

/// Writes what follows each prompt, a line each, with line breaks as \n.
void run_generate_job(const GenerateJob& job, std::istream& in, std::ostream& out, ExecContext& ctx);

}  // namespace quell
