// Any bytes as a label file, matched with its own names, or quell::Error.
#include "quell/base/error.h"
#include "quell/vision/label_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const quell::LabelFile labels =
        quell::parse_labels({reinterpret_cast<const char*>(data), size}, "fuzz");
    std::vector<std::string> names;
    for (const quell::LabelRow& row : labels.rows) names.push_back(row.name);
    const std::vector<std::int64_t> order = quell::match_labels(labels, names, "fuzz");
    for (std::size_t i = 0; i < order.size(); ++i)
      if (order[i] != static_cast<std::int64_t>(i)) __builtin_trap();
  } catch (const quell::Error&) {
  }
  return 0;
}
