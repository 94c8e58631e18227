#include "quell/compress/ignored.h"

#include <fnmatch.h>

#include <algorithm>
#include <numeric>
#include <regex>
#include <set>
#include <utility>

#include "quell/base/error.h"
#include "quell/compress/compress.h"
#include "quell/compress/site.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr std::size_t kSuggested = 3;

/// A linear and what it may be called. Sites are called by their whole names only: a glob for
/// q_proj would match k_proj with it.
struct NamedLinear {
  std::string module;
  std::vector<std::string> names, sites;

  bool is_meant_by(const std::string& pattern) const {
    const auto matches = [&](const std::string& name) { return matches_pattern(pattern, name); };
    return std::any_of(names.begin(), names.end(), matches) ||
           std::find(sites.begin(), sites.end(), pattern) != sites.end();
  }
};

/// By parameter, as linears may share one.
std::map<int, NamedLinear> named_linears(const Model& model, const Recipe& recipe) {
  std::map<int, NamedLinear> linears;
  const std::string_view prefix = find_family(model.spec.model_type).prefix;
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
    if (!model.graph.node(n).op->product || model.graph.node(n).param < 0) continue;
    const Param& p = model.params[static_cast<std::size_t>(model.graph.node(n).param)];
    NamedLinear& linear = linears[model.graph.node(n).param];
    linear.module = p.module;
    // With and without the family's prefix: an export names the linears of a bare encoder without
    // it.
    const bool prefixed = !prefix.empty() && p.module.starts_with(prefix);
    const std::string bare = prefixed ? p.module.substr(prefix.size()) : "";
    for (const std::string& name : {p.module, p.weight_name, model.node_name(n), bare})
      if (!name.empty() &&
          std::find(linear.names.begin(), linear.names.end(), name) == linear.names.end())
        linear.names.push_back(name);
  }
  // What a site is called depends on which linears are quantized: by this recipe, as `quell
  // inspect` has it, or all of them.
  for (const SiteScope& scope : {scope_of(recipe), SiteScope{.projections = true},
                                 SiteScope{.projections = true, .head = true, .lm_head = true}})
    for (const Site& site : derive_sites(model, scope))
      for (const int n : site.linears)
        linears.at(model.graph.node(n).param).sites.push_back(site.name);
  return linears;
}

/// Insertions, deletions and replacements that make one of the other.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({replaced, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row.back();
}

std::string near_names(const std::string& pattern, const std::map<int, NamedLinear>& linears) {
  std::set<std::pair<std::size_t, std::string>> by_distance;
  for (const auto& [param, linear] : linears)
    for (const std::string& name : linear.names)
      if (!name.ends_with(".weight")) by_distance.emplace(edit_distance(pattern, name), name);
  std::string text;
  std::size_t count = 0;
  for (const auto& [distance, name] : by_distance) {
    if (count++ == kSuggested) break;
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace

bool matches_pattern(const std::string& pattern, const std::string& name) {
  if (!pattern.starts_with("re:"))
    return pattern == name || ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  try {
    return std::regex_search(name, std::regex(pattern.substr(3)),
                             std::regex_constants::match_continuous);
  } catch (const std::regex_error& e) {
    throw Error(ErrorCode::kUsage,
                "--ignore " + pattern + ": not a valid regular expression: " + e.what());
  }
}

void resolve_ignored(const Model& model, Recipe& recipe) {
  if (recipe.ignore.empty()) return;
  const std::map<int, NamedLinear> linears = named_linears(model, recipe);
  std::set<std::string> modules;
  for (const std::string& pattern : recipe.ignore) {
    bool any = false;
    for (const auto& [param, linear] : linears) {
      if (!linear.is_meant_by(pattern)) continue;
      any = true;
      modules.insert(linear.module);
    }
    require(any, ErrorCode::kUsage, "--ignore \"", pattern,
            "\": no linear or convolution of the model is called so; near are ",
            near_names(pattern, linears), " (quell inspect lists them)");
  }
  recipe.ignore.assign(modules.begin(), modules.end());
}

}  // namespace quell
