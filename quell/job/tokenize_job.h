// `quell tokenize`: lines of text to JSON arrays of ids.
#pragma once

#include <filesystem>
#include <istream>
#include <ostream>

namespace quell {

/// Writes one JSON array a line of `in` (special tokens included). Throws Error(kIo) when `out` fails.
void run_tokenize_job(const std::filesystem::path& model_dir, std::istream& in, std::ostream& out);

}  // namespace quell
