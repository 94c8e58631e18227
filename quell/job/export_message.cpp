#include "quell/job/export_message.h"

#include "quell/base/error.h"
#include "quell/exporting/own_features.h"
#include "quell/io/json.h"
#include "quell/job/report.h"

namespace quell {
namespace {

constexpr std::size_t kNamedFiles = 8;

}  // namespace

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < std::uint64_t{1} << 20)
    return format_text("%.1f KiB", static_cast<double>(bytes) / (1 << 10));
  const bool large = bytes >= std::uint64_t{1} << 30;
  return format_text("%.1f %s", static_cast<double>(bytes) / (large ? 1 << 30 : 1 << 20),
                     large ? "GiB" : "MiB");
}

std::string size_message(std::uint64_t bytes_before, const ExportSummary& summary,
                         const std::optional<MeasuredDivergence>& divergence) {
  std::string parts;
  for (std::size_t k = 0; k < kNumStoredKinds; ++k)
    if (summary.bytes[k] > 0)
      parts += (parts.empty() ? "" : ", ") + std::string(kStoredKindNames[k]) + " " +
               bytes_text(summary.bytes[k]);
  std::string out = "weights: " + bytes_text(bytes_before) + " before, " +
                    bytes_text(summary.total()) + " now (" + parts + ")";
  if (divergence)
    out += "; divergence from float on " + str(divergence->tokens) + " calibration " +
           divergence->unit + ": " + format_text("%.2g", divergence->value) + " (" +
           divergence->what + ")";
  return out;
}

std::string reader_message(const Model& model, const ExportSummary& summary) {
  if (!is_known_to_others(model))
    return "only Quell reads this file: transformers has no such model";
  if (summary.own_features.empty()) return "";
  std::string reasons;
  for (const std::string& feature : summary.own_features)
    reasons += (reasons.empty() ? "" : "; ") + feature;
  const std::string recipes = recipes_for_others(model);
  const std::string remedy =
      recipes.empty()
          ? "no recipe writes one of this family that others load"
          : "--recipe " + recipes + " writes one that transformers with compressed-tensors loads";
  return "only Quell reads this file, transformers stops with an error: " + reasons + "; " + remedy;
}

std::string left_behind_message(const ExportSummary& summary) {
  if (summary.left_behind.empty()) return "";
  std::string files;
  for (std::size_t i = 0; i < std::min(kNamedFiles, summary.left_behind.size()); ++i)
    files += (files.empty() ? "" : ", ") + summary.left_behind[i];
  if (summary.left_behind.size() > kNamedFiles)
    files += str(" and ", summary.left_behind.size() - kNamedFiles, " more");
  return "not copied: " + files;
}

Json export_json(std::uint64_t bytes_before, const ExportSummary& summary,
                 const std::optional<MeasuredDivergence>& divergence) {
  Json bytes = Json::object();
  for (std::size_t k = 0; k < kNumStoredKinds; ++k) bytes[kStoredKindNames[k]] = summary.bytes[k];
  Json out = {{"bytes_before", bytes_before},
              {"bytes_after", summary.total()},
              {"bytes", bytes},
              {"only_quell_reads_it", summary.own_features},
              {"left_behind", summary.left_behind}};
  if (divergence)
    out["divergence"] = {
        {"what", divergence->what}, {"value", divergence->value}, {"tokens", divergence->tokens}};
  return out;
}

}  // namespace quell
