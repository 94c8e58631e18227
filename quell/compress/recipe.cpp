#include "quell/compress/recipe.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <regex>
#include <set>

#include "quell/base/error.h"
#include "quell/compress/ignored.h"
#include "quell/text/data/text_file.h"

namespace quell {
namespace {

struct Builtin {
  const char* name;
  const char* text;
};
constexpr Builtin kBuiltins[] = {
#include "builtin_recipes.inc"
};

/// A mapping whose keys must be known and distinct.
class Section {
 public:
  Section(const YAML::Node& node, std::string where, const std::vector<std::string>& known)
      : where_(std::move(where)) {
    require(node.IsMap(), ErrorCode::kInvalidInput, where_, ": expected a mapping");
    for (const auto& item : node) {
      require(item.first.IsScalar(), ErrorCode::kInvalidInput, where_, ": a key is not plain text");
      const std::string key = item.first.Scalar();
      require(std::find(known.begin(), known.end(), key) != known.end(), ErrorCode::kInvalidInput,
              where_, ": unknown key \"", key, "\"; known are ", comma_list(known));
      require(values_.emplace(key, item.second).second, ErrorCode::kInvalidInput, where_,
              ": duplicate key \"", key, '"');
    }
  }
  const YAML::Node* find(const std::string& key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? nullptr : &it->second;
  }
  std::string where(const std::string& key) const { return where_ + ": key \"" + key + "\""; }
  std::string scalar(const std::string& key, const std::string& fallback) const {
    const YAML::Node* node = find(key);
    if (!node) return fallback;
    require(node->IsScalar(), ErrorCode::kInvalidInput, where(key), ": expected one value");
    return node->Scalar();
  }
  std::string choice(const std::string& key, const std::vector<std::string>& allowed,
                     const std::string& fallback) const {
    const std::string value = scalar(key, fallback);
    require(std::find(allowed.begin(), allowed.end(), value) != allowed.end(),
            ErrorCode::kInvalidInput, where(key), ": \"", value, "\"; use ", comma_list(allowed));
    return value;
  }
  bool flag(const std::string& key, bool fallback) const {
    return choice(key, {"true", "false"}, fallback ? "true" : "false") == "true";
  }
  std::int64_t integer(const std::string& key, std::int64_t low, std::int64_t high,
                       std::int64_t fallback) const {
    const YAML::Node* node = find(key);
    return node ? parse_integer(scalar(key, ""), where(key), low, high) : fallback;
  }

 private:
  std::string where_;
  std::map<std::string, YAML::Node> values_;
};

QuantSpec read_quantizer(const YAML::Node& node, const std::string& where, QuantSpec spec,
                         bool weights, ObserverChoice* observer) {
  std::vector<std::string> known = {"num_bits",   "symmetric", "granularity",
                                    "group_size", "codes",     "step"};
  if (!weights)
    known.insert(known.end(),
                 {"dynamic", "observer", "quantile", "double_count_first_batch", "calibrate"});
  const Section s(node, where, known);
  spec.num_bits = static_cast<int>(s.integer("num_bits", 2, 8, spec.num_bits));
  spec.symmetric = s.flag("symmetric", spec.symmetric);
  const std::string granularity =
      s.choice("granularity",
               weights ? std::vector<std::string>{"tensor", "channel", "group"}
                       : std::vector<std::string>{"tensor", "token", "group"},
               granularity_name(spec.granularity));
  for (const Granularity g : {Granularity::kPerTensor, Granularity::kPerChannel,
                              Granularity::kPerToken, Granularity::kPerGroup})
    if (granularity_name(g) == granularity) spec.granularity = g;
  spec.group_size = s.integer("group_size", 1, 1 << 24, 0);
  require(spec.granularity != Granularity::kPerGroup || spec.group_size > 0,
          ErrorCode::kInvalidInput, where, ": granularity group needs group_size");
  require(spec.granularity == Granularity::kPerGroup || spec.group_size == 0,
          ErrorCode::kInvalidInput, s.where("group_size"), ": has no effect with granularity ",
          granularity, "; use granularity: group, or leave it out");
  spec.codes = s.choice("codes", {"restricted", "full"}, "restricted") == "full"
                   ? CodeRange::kFull
                   : CodeRange::kRestricted;
  spec.step_rule = s.choice("step", {"max_code", "half_range"}, "max_code") == "half_range"
                       ? StepRule::kHalfRange
                       : StepRule::kMaxCode;
  require(spec.symmetric || spec.codes == CodeRange::kRestricted, ErrorCode::kInvalidInput,
          s.where("codes"),
          ": has no effect with symmetric: false, whose codes are 0 to 2^bits - 1; leave it out");
  if (weights) return spec;
  spec.dynamic = s.flag("dynamic", spec.granularity != Granularity::kPerTensor);
  require(spec.dynamic || spec.granularity == Granularity::kPerTensor, ErrorCode::kInvalidInput,
          where, ": static activations are per tensor only");
  const ObserverChoice usual;
  observer->name = s.choice("observer", observer_names(), observer->name);
  observer->first_batch_twice = s.flag("double_count_first_batch", false);
  observer->after_search =
      s.choice("calibrate", {"with_search", "after_search"}, "with_search") == "after_search";
  require(!observer->after_search || !spec.dynamic, ErrorCode::kInvalidInput, s.where("calibrate"),
          ": dynamic activations are not calibrated; leave it out");
  if (s.find("quantile")) {
    require(observer->name.ends_with("quantile"), ErrorCode::kInvalidInput, s.where("quantile"),
            ": observer ", observer->name, " has none; use avg_quantile or ema_quantile");
    observer->quantile = parse_number(s.scalar("quantile", ""), s.where("quantile"), 0.5, 1);
  }
  require(!spec.dynamic || (observer->name == usual.name && !observer->first_batch_twice),
          ErrorCode::kInvalidInput, where,
          ": an observer has no effect on dynamic activations, whose ranges are not calibrated; "
          "leave it out");
  return spec;
}

std::vector<PassParams> read_passes(const YAML::Node& node, const std::string& where) {
  require(node.IsSequence(), ErrorCode::kInvalidInput, where, ": expected a list");
  std::vector<PassParams> passes;
  for (const YAML::Node& item : node) {
    if (item.IsScalar()) {
      passes.emplace_back(item.Scalar(), std::map<std::string, std::string>());
      continue;
    }
    require(item.IsMap() && item.size() == 1 && item.begin()->first.IsScalar(),
            ErrorCode::kInvalidInput, where,
            ": each pass is a name, or one name with its settings");
    const std::string name = item.begin()->first.Scalar();
    std::map<std::string, std::string> values;
    const YAML::Node settings = item.begin()->second;
    require(settings.IsMap() || settings.IsNull(), ErrorCode::kInvalidInput, where,
            ": settings of ", name, " are not a mapping");
    for (const auto& setting : settings) {
      require(setting.first.IsScalar() && setting.second.IsScalar(), ErrorCode::kInvalidInput,
              where, ": a setting of ", name, " is not plain");
      require(values.emplace(setting.first.Scalar(), setting.second.Scalar()).second,
              ErrorCode::kInvalidInput, where, ": duplicate key \"", setting.first.Scalar(), '"');
    }
    passes.emplace_back(name, std::move(values));
  }
  return passes;
}

/// yaml-cpp resolves aliases into shared, possibly cyclic, nodes and recurses on depth: both are
/// refused before it builds anything.
void refuse_aliases_and_depth(const std::string& yaml, const std::string& source) {
  constexpr std::size_t kMaxBytes = 1 << 20, kMaxDepth = 32;
  require(yaml.size() <= kMaxBytes, ErrorCode::kInvalidInput, source, ": ", yaml.size(),
          " bytes, more than a recipe needs");
  std::size_t depth = 0, dashes = 0;
  char quote = 0;
  bool comment = false, line_start = true;
  char previous = '\n';
  for (const char c : yaml) {
    if (c == '\n') comment = false, line_start = true, dashes = 0;
    const bool token_start = previous == ' ' || previous == '\n' || previous == '[' ||
                             previous == '{' || previous == ',' || previous == ':' ||
                             previous == '-' || previous == '\t';
    if (!comment && !quote && c == '#' && token_start) comment = true;
    if (!comment && (c == '"' || c == '\'') && (quote == c || (!quote && token_start)))
      quote = quote ? 0 : c;
    if (!comment && !quote) {
      require(!((c == '*' || c == '&' || c == '!') && token_start), ErrorCode::kInvalidInput,
              source,
              ": YAML anchors, aliases and tags are not allowed in a recipe; quote a value that "
              "starts with ",
              c);
      if (c == '[' || c == '{') ++depth;
      if ((c == ']' || c == '}') && depth > 0) --depth;
      if (line_start && (c == '-' || c == '?')) ++dashes;
      if (c != ' ' && c != '-' && c != '?') line_start = false;
    }
    require(depth <= kMaxDepth && dashes <= kMaxDepth, ErrorCode::kInvalidInput, source,
            ": nested too deep");
    previous = c;
  }
}

}  // namespace

void set_scheme(Recipe& recipe, const std::string& scheme) {
  static const std::regex kPattern("[wW]([2-8])[aA]([2-8])");
  std::smatch match;
  require(scheme.size() < 16 && std::regex_match(scheme, match, kPattern), ErrorCode::kUsage,
          "--scheme ", scheme, ": expected W<bits>A<bits> with 2 to 8 bits, as in W8A8 or W4A4");
  recipe.weights.num_bits = std::stoi(match[1]);
  recipe.activations.num_bits = std::stoi(match[2]);
}

std::string scheme_of(const Recipe& recipe) {
  return str("W", recipe.weights.num_bits, "A", recipe.activations.num_bits);
}

Recipe parse_recipe(const std::string& yaml, const std::string& source) {
  refuse_aliases_and_depth(yaml, source);
  Recipe recipe;
  recipe.weights = {8, true, Granularity::kPerChannel};
  recipe.activations = {8, false, Granularity::kPerTensor};
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(yaml);
    require(documents.size() <= 1, ErrorCode::kInvalidInput, source, ": holds ", documents.size(),
            " YAML documents (parted by ---), a recipe is one; remove the others");
    const YAML::Node root = documents.empty() ? YAML::Node() : documents.front();
    const Section s(root, source,
                    {"name", "description", "scheme", "weights", "activations", "batch_size",
                     "quantize", "migrate", "residual", "ignore", "passes"});
    recipe.name = s.scalar("name", source);
    if (s.find("scheme")) set_scheme(recipe, s.scalar("scheme", ""));
    const std::string scheme = scheme_of(recipe);
    if (const YAML::Node* w = s.find("weights"))
      recipe.weights = read_quantizer(*w, s.where("weights"), recipe.weights, true, nullptr);
    if (const YAML::Node* a = s.find("activations"))
      recipe.activations =
          read_quantizer(*a, s.where("activations"), recipe.activations, false, &recipe.observer);
    require(!s.find("scheme") || scheme == scheme_of(recipe), ErrorCode::kInvalidInput,
            s.where("scheme"), ": says ", scheme, ", num_bits of weights and activations say ",
            scheme_of(recipe), "; leave one of them out");
    recipe.batch_size = s.integer("batch_size", 1, 4096, recipe.batch_size);
    recipe.residual_after_quant =
        s.choice("residual", {"float", "quantized"}, "float") == "quantized";
    if (const YAML::Node* q = s.find("quantize")) {
      const Section parts(*q, s.where("quantize"),
                          {"attention", "embeddings", "projections", "head", "lm_head"});
      recipe.quantize_attention = parts.flag("attention", false);
      recipe.quantize_embeddings = parts.flag("embeddings", false);
      recipe.quantize_projections = parts.flag("projections", false);
      recipe.quantize_head = parts.flag("head", false);
      recipe.quantize_lm_head = parts.flag("lm_head", false);
    }
    if (const YAML::Node* m = s.find("migrate")) {
      const Section through(*m, s.where("migrate"), {"relu", "attention"});
      recipe.migrate_relu = through.flag("relu", false);
      recipe.migrate_attention = through.flag("attention", false);
    }
    if (const YAML::Node* ignore = s.find("ignore")) {
      require(ignore->IsSequence(), ErrorCode::kInvalidInput, s.where("ignore"),
              ": expected a list");
      for (const YAML::Node& item : *ignore) {
        require(item.IsScalar(), ErrorCode::kInvalidInput, s.where("ignore"), ": expected names");
        recipe.ignore.push_back(item.Scalar());
      }
    }
    if (const YAML::Node* passes = s.find("passes"))
      recipe.passes = read_passes(*passes, s.where("passes"));
  } catch (const YAML::Exception& e) {
    throw Error(ErrorCode::kInvalidInput, source + ": not a valid recipe: " + e.what());
  } catch (const Error& e) {
    throw Error(ErrorCode::kInvalidInput, e.what());
  }
  return recipe;
}

std::vector<std::string> builtin_recipe_names() {
  std::vector<std::string> names;
  for (const Builtin& b : kBuiltins) names.emplace_back(b.name);
  return names;
}

std::string builtin_recipe_text(const std::string& name) {
  for (const Builtin& b : kBuiltins)
    if (name == b.name) return b.text;
  throw Error(ErrorCode::kUsage, "recipe \"" + name + "\" is unknown; built-in are " +
                                     comma_list(builtin_recipe_names()));
}

Recipe load_recipe(const std::string& name_or_file) {
  for (const Builtin& b : kBuiltins)
    if (name_or_file == b.name) return parse_recipe(b.text, name_or_file);
  std::error_code ec;
  if (!std::filesystem::exists(name_or_file, ec))
    return parse_recipe(builtin_recipe_text(name_or_file), name_or_file);  // throws with the names
  return parse_recipe(read_data_text(name_or_file, 1 << 20), name_or_file);
}

std::string canonical_text(const Recipe& r) {
  const auto spec = [](const QuantSpec& s) {
    return str(s.num_bits, " ", s.symmetric, " ", granularity_name(s.granularity), " ",
               s.group_size, " ", s.dynamic, " ", static_cast<int>(s.codes), " ",
               static_cast<int>(s.step_rule), "; ");
  };
  std::string text =
      str(spec(r.weights), spec(r.activations), r.observer.name, " ", r.observer.quantile, " ",
          r.observer.first_batch_twice, " ", r.batch_size, " ", r.quantize_attention,
          r.residual_after_quant, r.quantize_embeddings, r.quantize_projections, r.quantize_head,
          r.quantize_lm_head, r.migrate_relu, r.migrate_attention);
  if (r.observer.after_search) text += "; calibrate after_search";
  for (const std::string& i : r.ignore) text += "; ignore " + i;
  for (const PassParams& p : r.passes) {
    text += "; " + p.name();
    for (const auto& [key, value] : p.values()) text += " " + key + "=" + value;
  }
  return text;
}

bool is_ignored(const Recipe& recipe, const std::string& module) {
  return std::any_of(recipe.ignore.begin(), recipe.ignore.end(),
                     [&](const std::string& pattern) { return matches_pattern(pattern, module); });
}

}  // namespace quell
