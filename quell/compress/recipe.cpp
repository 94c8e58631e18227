#include "quell/compress/recipe.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/exact_text.h"
#include "quell/compress/ignored.h"
#include "quell/io/yaml_section.h"
#include "quell/quant/scheme.h"
#include "quell/text/data/recipe_library.h"

namespace quell {
namespace {

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

}  // namespace

void set_scheme(Recipe& recipe, const std::string& text) {
  const Scheme scheme = parse_scheme(text);
  const bool is_plain = !scheme.weights.is_ternary && !scheme.weights.is_float() &&
                        !scheme.activations.is_float() && !scheme.embeddings;
  require(
      is_plain, ErrorCode::kUsage, "--scheme ", text,
      ": here weights and activations have 2 to 8 bits, as in W8A8 or W4A4; ternary weights and "
      "bits of embeddings come from training (quell distill)");
  recipe.weights.num_bits = scheme.weights.bits;
  recipe.activations.num_bits = scheme.activations.bits;
}

std::string scheme_of(const Recipe& recipe) {
  const Scheme scheme{.weights = {.bits = recipe.weights.num_bits},
                      .activations = {.bits = recipe.activations.num_bits},
                      .embeddings = {}};
  return scheme.text();
}

Recipe parse_recipe(const std::string& yaml, const std::string& source) {
  Recipe recipe;
  recipe.weights = {8, true, Granularity::kPerChannel};
  recipe.activations = {8, false, Granularity::kPerTensor};
  read_yaml(yaml, source, [&](const YAML::Node& root) {
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
      recipe.passes = read_methods(*passes, s.where("passes"), "pass");
  });
  return recipe;
}

Recipe load_recipe(const std::string& name_or_file) {
  return parse_recipe(quantization_recipes().read(name_or_file), name_or_file);
}

std::string canonical_text(const Recipe& r) {
  const auto spec = [](const QuantSpec& s) {
    return str(s.num_bits, " ", s.symmetric, " ", granularity_name(s.granularity), " ",
               s.group_size, " ", s.dynamic, " ", static_cast<int>(s.codes), " ",
               static_cast<int>(s.step_rule), "; ");
  };
  std::string text = str(spec(r.weights), spec(r.activations), r.observer.name, " ",
                         exact_text(r.observer.quantile), " ", r.observer.first_batch_twice, " ",
                         r.batch_size, " ", r.quantize_attention, r.residual_after_quant,
                         r.quantize_embeddings, r.quantize_projections, r.quantize_head,
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
