#include "quell/eval/answer_key.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/python_text.h"

namespace quell {
namespace {

std::string upper_ascii(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}

std::optional<std::int64_t> as_integer(const std::string& text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

/// The choice that a string names; -1 where it is none. Labels of the file come first: they say
/// what its digits mean.
std::int64_t choice_of(const std::string& text, int first, const std::vector<std::string>& labels) {
  if (const auto it = std::find(labels.begin(), labels.end(), text); it != labels.end())
    return it - labels.begin();
  const std::string upper = upper_ascii(text);
  const auto same = [&](const std::string& label) { return upper_ascii(label) == upper; };
  if (const auto it = std::find_if(labels.begin(), labels.end(), same); it != labels.end())
    return it - labels.begin();

  if (upper.size() == 1 && upper[0] >= 'A' && upper[0] <= 'Z') return upper[0] - 'A';
  const std::optional<std::int64_t> number = as_integer(text);
  return number ? *number - first : -1;
}

std::string text_of(const Json& value) {
  if (value.is_string()) return python::strip(value.get<std::string>());
  const bool whole =
      value.is_number_float() && value.get<double>() == std::floor(value.get<double>());
  if (whole && std::fabs(value.get<double>()) < 1e9)
    return std::to_string(value.get<std::int64_t>());
  return value.dump();
}

}  // namespace

std::size_t find_answer(const Json& row, const std::vector<AnswerKey>& keys,
                        const std::vector<std::string>& labels, std::size_t choices,
                        const std::string& where) {
  std::optional<std::int64_t> answer;
  std::string known, given_by;
  for (const AnswerKey& key : keys) {
    known += str(known.empty() ? "" : " or ", '"', key.name, '"');
    const auto it = row.find(key.name);
    if (it == row.end() || it->is_null()) continue;
    const std::string text = text_of(*it);
    if (text.empty()) continue;

    const std::int64_t value =
        choice_of(text, key.first, key.by_label ? labels : std::vector<std::string>());
    require(value >= 0 && value < static_cast<std::int64_t>(choices), ErrorCode::kInvalidInput,
            where, ": \"", key.name, "\" is not one of the ", choices, " choices: ", it->dump());
    require(!answer || *answer == value, ErrorCode::kInvalidInput, where, ": \"", key.name, "\" ",
            it->dump(), " names another choice than \"", given_by, '"');
    answer = value;
    given_by = key.name;
  }
  require(answer.has_value(), ErrorCode::kInvalidInput, where, ": no answer; expected ", known);
  return static_cast<std::size_t>(*answer);
}

}  // namespace quell
