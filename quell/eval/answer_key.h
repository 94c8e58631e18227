// Which choice of a question is right, as public data sets write it down.
#pragma once

#include <string>
#include <vector>

#include "quell/io/json_fwd.h"

namespace quell {

/// A key that may say which choice is right.
struct AnswerKey {
  const char* name;
  int first = 0;  ///< the number of the first choice
  bool by_label =
      false;  ///< its value is one of the names that the file gives its choices, where it gives any
};

/// The index of the right choice. The value of a key is one of `labels` (may be empty), a letter of
/// either case (A: the first choice), or a number, also as a string. Keys that are missing, null or
/// "" are passed over; those that are there must agree. Throws Error(kInvalidInput) beginning with
/// `where`.
std::size_t find_answer(const Json& row, const std::vector<AnswerKey>& keys,
                        const std::vector<std::string>& labels, std::size_t choices,
                        const std::string& where);

}  // namespace quell
