// `quell tokenize` and `quell detokenize`: lines of text to JSON arrays of ids and back.
#pragma once

#include <istream>
#include <ostream>
#include <string>

#include "quell/io/model_directory.h"

namespace quell {

struct TokenizeOptions {
  std::int64_t max_length = 0;  ///< ids to keep, 0: all
  bool add_special_tokens = true;
  bool details = false;  ///< objects with ids, type_ids, tokens, offsets instead of arrays of ids
};

/// One JSON value a line of `in`. Throws Error(kIo) when `out` fails.
void run_tokenize_job(const ModelDirectory& model_dir, const TokenizeOptions& options,
                      std::istream& in, std::ostream& out);

/// Line breaks as \n and backslashes as \\, so that a text is one line.
std::string escape_line(const std::string& text);

/// The text of each line of ids (a JSON array, or numbers with spaces between). Line breaks inside
/// a text are written as \n, backslashes as \\, where `escape`. Throws Error(kInvalidInput) with
/// the line number on anything else.
void run_detokenize_job(const ModelDirectory& model_dir, bool skip_special_tokens, bool escape,
                        std::istream& in, std::ostream& out);

}  // namespace quell
