// Rows that something was done to which their reader should know of.
#pragma once

#include <string>

#include "quell/base/error.h"
#include "quell/base/log.h"

namespace quell {

struct RowCount {
  std::int64_t count = 0;
  std::size_t first = 0;

  void add(std::size_t row) {
    if (count++ == 0) first = row;
  }
  /// One line, where there are any: "SOURCE: 3 rows WHAT (the first is row 17)".
  void warn(const std::string& source, const std::string& what) const {
    if (count > 0)
      log(LogLevel::kWarning,
          str(source, ": ", count, " rows ", what, " (the first is row ", first, ")"));
  }
};

}  // namespace quell
