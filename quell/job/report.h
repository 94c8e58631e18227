// What jobs return: numbers by engine, for tables and JSON.
#pragma once

#include <string>
#include <vector>

#include "quell/eval/evaluate.h"
#include "quell/io/json_fwd.h"

namespace quell {

struct ReportRow {
  std::string engine, task;
  MetricResult result;
};

struct Report {
  std::vector<ReportRow> rows;
  TokenStatistics tokens;  ///< perplexity beside a float model; else empty
  JsonBox written;  ///< of `quantize`: sizes and readers of the files (export_json); else null
  void add(const std::string& engine, const std::string& task,
           const std::vector<MetricResult>& results);
  /// {"results": [{"engine", "task", "metric", "value", "samples"}]}, and "written" where there is
  /// one
  Json to_json() const;
  /// Metrics as columns, engines as rows.
  std::string to_table() const;
};

/// printf into a string of at most 511 bytes.
[[gnu::format(printf, 1, 2)]] std::string format_text(const char* pattern, ...);

/// Writes `json`, indented (OutputFile). Throws Error(kIo).
void write_json_file(const std::string& path, const Json& json);

}  // namespace quell
