// What `quell quantize` says about the files that it wrote.
#pragma once

#include <optional>
#include <string>

#include "quell/exporting/stored_tensors.h"
#include "quell/io/json_fwd.h"

namespace quell {

/// What a measurement before and after found.
struct MeasuredDivergence {
  std::string what;  ///< Divergence::words()
  double value = 0;
  std::int64_t tokens = 0;
  std::string unit = "tokens";  ///< what these are
};

/// Bytes before and after, what those after consist of, and the distance from the float model, on
/// one line.
std::string size_message(std::uint64_t bytes_before, const ExportSummary& summary,
                         const std::optional<MeasuredDivergence>& divergence);

/// Why only Quell reads the file and which recipe others can read; empty where they read this one.
std::string reader_message(const Model& model, const ExportSummary& summary);

/// Files of the model directory that were not copied; empty where there are none.
std::string left_behind_message(const ExportSummary& summary);

Json export_json(std::uint64_t bytes_before, const ExportSummary& summary,
                 const std::optional<MeasuredDivergence>& divergence);

/// "3.1 MiB".
std::string bytes_text(std::uint64_t bytes);

}  // namespace quell
