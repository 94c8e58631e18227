// Recipes in YAML: mappings whose keys are known, and methods with their settings.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "quell/io/method_params.h"

namespace quell {

/// Calls `read` with the one document of `yaml`. Aliases are refused (they could be cyclic), and
/// what is nested too deep. Throws Error(kInvalidInput) that starts with `source`, whatever `read`
/// throws included.
void read_yaml(const std::string& yaml, const std::string& source,
               const std::function<void(const YAML::Node&)>& read);

/// A mapping whose keys must be known and distinct. All errors are Error(kInvalidInput) naming file
/// and key.
class Section {
 public:
  Section(const YAML::Node& node, std::string where, const std::vector<std::string>& known);

  /// Null where it is not said.
  const YAML::Node* find(const std::string& key) const;
  /// What messages about a key start with.
  std::string where(const std::string& key) const { return where_ + ": key \"" + key + "\""; }
  std::string scalar(const std::string& key, const std::string& fallback) const;
  std::string choice(const std::string& key, const std::vector<std::string>& allowed,
                     const std::string& fallback) const;
  bool flag(const std::string& key, bool fallback) const;
  std::int64_t integer(const std::string& key, std::int64_t low, std::int64_t high,
                       std::int64_t fallback) const;
  double number(const std::string& key, double low, double high, double fallback) const;

 private:
  std::string where_;
  std::map<std::string, YAML::Node> values_;
};

/// A name, or one name with its settings. `kind` says what it names ("pass").
MethodParams read_method(const YAML::Node& node, const std::string& where, const std::string& kind);
/// A list of them.
std::vector<MethodParams> read_methods(const YAML::Node& node, const std::string& where,
                                       const std::string& kind);

}  // namespace quell
