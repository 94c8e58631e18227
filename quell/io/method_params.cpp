#include "quell/io/method_params.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "quell/base/error.h"

namespace quell {

std::string comma_list(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

double parse_number(const std::string& text, const std::string& what, double low, double high) {
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(ec == std::errc() && end == text.data() + text.size() && value >= low && value <= high,
          ErrorCode::kInvalidInput, what, ": \"", text, "\" is not a number from ", low, " to ",
          high);
  return value;
}

std::int64_t parse_integer(const std::string& text, const std::string& what, std::int64_t low,
                           std::int64_t high) {
  const double value =
      parse_number(text, what, static_cast<double>(low), static_cast<double>(high));
  require(value == std::floor(value), ErrorCode::kInvalidInput, what, ": \"", text,
          "\" is not a whole number");
  return static_cast<std::int64_t>(value);
}

std::string MethodParams::where(const std::string& key) const {
  return kind_ + " " + name_ + ": key \"" + key + "\"";
}

std::string MethodParams::choice(const std::string& key, const std::vector<std::string>& allowed,
                                 const std::string& fallback) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return fallback;
  require(std::find(allowed.begin(), allowed.end(), it->second) != allowed.end(),
          ErrorCode::kInvalidInput, where(key), ": \"", it->second, "\"; use ",
          comma_list(allowed));
  return it->second;
}

bool MethodParams::flag(const std::string& key, bool fallback) const {
  return choice(key, {"true", "false"}, fallback ? "true" : "false") == "true";
}

std::int64_t MethodParams::integer(const std::string& key, std::int64_t low, std::int64_t high,
                                   std::int64_t fallback) const {
  const auto it = values_.find(key);
  return it == values_.end() ? fallback : parse_integer(it->second, where(key), low, high);
}

double MethodParams::number(const std::string& key, double low, double high,
                            double fallback) const {
  const auto it = values_.find(key);
  return it == values_.end() ? fallback : parse_number(it->second, where(key), low, high);
}

void MethodParams::check_keys(const std::vector<std::string>& known) const {
  for (const auto& [key, value] : values_)
    require(std::find(known.begin(), known.end(), key) != known.end(), ErrorCode::kInvalidInput,
            kind_, " ", name_, ": unknown key \"", key, "\"; known are ", comma_list(known));
}

}  // namespace quell
