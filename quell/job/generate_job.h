// `quell generate`: text from a prompt a line.
#pragma once

#include <filesystem>
#include <functional>
#include <istream>
#include <optional>
#include <ostream>
#include <string>

#include "quell/base/exec_context.h"
#include "quell/engine/generate.h"

namespace quell {

struct GenerateJob {
  ModelDirectory model_dir;
  std::string engine;                 ///< empty: integer for quantized models, float otherwise
  std::optional<std::string> prompt;  ///< none: lines of `in`
  bool escape = false;  ///< line breaks inside a text as \n, so that every text is one line
  GenerateOptions options;
  bool length_by_model = false;  ///< as many new tokens as the model's settings say, where they do
};

/// Writes what follows each prompt, and a line break behind it. An empty prompt is the model's
/// begin token: Error(kInvalidInput) where it has none. A warning says where the context was full
/// before the text came to its end.
void run_generate_job(const GenerateJob& job, std::istream& in, std::ostream& out,
                      ExecContext& ctx);

}  // namespace quell
