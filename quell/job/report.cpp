#include "quell/job/report.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "quell/io/json.h"
#include "quell/io/mapped_file.h"

namespace quell {

void Report::add(const std::string& engine, const std::string& task,
                 const std::vector<MetricResult>& results) {
  for (const MetricResult& r : results) rows.push_back({engine, task, r});
}

Json Report::to_json() const {
  Json results = Json::array();
  for (const ReportRow& row : rows)
    results.push_back({{"engine", row.engine},
                       {"task", row.task},
                       {"metric", row.result.metric},
                       {"value", row.result.value},
                       {"samples", row.result.samples}});
  Json report = {{"results", results}};
  if (tokens.count() > 0) report["token_statistics"] = tokens.to_json();
  if (!written->is_null()) report["written"] = *written;
  return report;
}

std::string Report::to_table() const {
  std::vector<std::string> engines, metrics;
  const auto note = [](std::vector<std::string>& list, const std::string& name) {
    if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
  };
  for (const ReportRow& row : rows) {
    note(engines, row.engine);
    note(metrics, row.result.metric);
  }
  const auto pad = [](const std::string& text, std::size_t width) {
    return text + std::string(std::max(width, text.size()) - text.size(), ' ');
  };
  std::string out = pad("engine", 16);
  for (const std::string& metric : metrics) out += " " + pad(metric, 14);
  out += "\n";
  for (const std::string& engine : engines) {
    out += pad(engine, 16);
    for (const std::string& metric : metrics) {
      const auto it = std::find_if(rows.begin(), rows.end(), [&](const ReportRow& r) {
        return r.engine == engine && r.result.metric == metric;
      });
      const bool small = metric == "kl" || metric.starts_with("cosine") ||
                         metric.ends_with("perplexity") || metric == "bits_per_byte";
      const std::string text =
          it == rows.end() ? "-" : format_text(small ? "%.4f" : "%.2f", it->result.value);
      out += " " + pad(text, 14);
    }
    out += "\n";
  }
  return out;
}

std::string format_text(const char* pattern, ...) {
  char text[512];
  va_list args;
  va_start(args, pattern);
  std::vsnprintf(text, sizeof text, pattern, args);
  va_end(args);
  return text;
}

void write_json_file(const std::string& path, const Json& json) {
  write_text_file(path, json.dump(2) + "\n");
}

}  // namespace quell
