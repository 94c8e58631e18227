// Settings of one method (a pass of a recipe, a training quantizer) as text, which the method
// itself reads and checks.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace quell {

/// A number from `low` to `high`; throws Error(kInvalidInput) that starts with `what`.
double parse_number(const std::string& text, const std::string& what, double low, double high);
/// A whole number from `low` to `high`.
std::int64_t parse_integer(const std::string& text, const std::string& what, std::int64_t low,
                           std::int64_t high);
/// Words with commas in between, for messages.
std::string comma_list(const std::vector<std::string>& words);

class MethodParams {
 public:
  /// `kind` says in messages what `name` names.
  MethodParams(std::string name, std::map<std::string, std::string> values,
               std::string kind = "pass")
      : name_(std::move(name)), kind_(std::move(kind)), values_(std::move(values)) {}

  const std::string& name() const { return name_; }
  const std::map<std::string, std::string>& values() const { return values_; }
  bool has(const std::string& key) const { return values_.contains(key); }
  /// One of `allowed`; throws Error(kInvalidInput) naming method, key and choices.
  std::string choice(const std::string& key, const std::vector<std::string>& allowed,
                     const std::string& fallback) const;
  /// true or false.
  bool flag(const std::string& key, bool fallback) const;
  double number(const std::string& key, double low, double high, double fallback) const;
  /// A whole number.
  std::int64_t integer(const std::string& key, std::int64_t low, std::int64_t high,
                       std::int64_t fallback) const;
  /// Throws Error(kInvalidInput) on a key that is not in `known`.
  void check_keys(const std::vector<std::string>& known) const;

 private:
  /// What a message about `key` starts with.
  std::string where(const std::string& key) const;

  std::string name_;
  std::string kind_;
  std::map<std::string, std::string> values_;
};

}  // namespace quell
