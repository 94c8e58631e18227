// Rotary positions: config.json of transformers 4 and 5 as one recipe of frequencies.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/family.h"

namespace quell {
namespace {

/// What all types of scaling start from.
struct Rotary {
  Settings parameters;  ///< rope_parameters, or rope_scaling
  double theta = 0;
  std::int64_t head_dim = 0;
  std::int64_t dim = 0;  ///< of a head that are rotated
  std::int64_t max_position_embeddings = 0;
  double original_positions = 0;  ///< before the context was extended
};

double needed(const Settings& parameters, const char* key) {
  require(parameters.has(key), ErrorCode::kInvalidInput, "key \"rope_scaling\": \"", key,
          "\" is missing");
  const double value = json_number(parameters, key, 0);
  require(value > 0, ErrorCode::kInvalidInput, "key \"rope_scaling\": \"", key,
          "\" must be positive");
  return value;
}

void read_llama3(const Rotary& r, RotaryRecipe& recipe) {
  recipe.kind = RotaryRecipe::Kind::kLlama3;
  recipe.factor = needed(r.parameters, "factor");
  recipe.low_freq_factor = needed(r.parameters, "low_freq_factor");
  recipe.high_freq_factor = needed(r.parameters, "high_freq_factor");
  recipe.original_positions = r.original_positions;
  require(recipe.high_freq_factor > recipe.low_freq_factor, ErrorCode::kInvalidInput,
          "key \"rope_scaling\": llama3 factors are out of order");
}

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

/// "factor", or how much longer the context is than before it was extended.
double extension(const Rotary& r) {
  if (r.parameters.has("factor")) return needed(r.parameters, "factor");
  return static_cast<double>(r.max_position_embeddings) / r.original_positions;
}

/// YaRN (Peng et al. 2023): cosines and sines grow, frequencies change along a ramp.
void read_yarn(const Rotary& r, RotaryRecipe& recipe) {
  const Settings& p = r.parameters;
  recipe.kind = RotaryRecipe::Kind::kYarn;
  recipe.factor = extension(r);
  p.value("factor");

  const double mscale = json_number(p, "mscale", 0);
  const double mscale_all_dim = json_number(p, "mscale_all_dim", 0);
  const bool both = mscale != 0 && mscale_all_dim != 0;
  const double suggested =
      both ? yarn_scale(recipe.factor, mscale) / yarn_scale(recipe.factor, mscale_all_dim)
           : yarn_scale(recipe.factor, 1);
  recipe.amplitude = json_number(p, "attention_factor", suggested);

  const auto dim = static_cast<double>(r.dim);
  const auto dimension_of = [&](double rotations) {
    return dim * std::log(r.original_positions / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(r.theta));
  };
  const auto or_default = [](double value, double fallback) {
    return value == 0 ? fallback : value;
  };
  double low = dimension_of(or_default(json_number(p, "beta_fast", 0), 32));
  double high = dimension_of(or_default(json_number(p, "beta_slow", 0), 1));
  if (json_bool(p, "truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  recipe.low = std::max(low, 0.0);
  recipe.high = std::min(high, dim - 1);
  if (recipe.low == recipe.high) recipe.high += 0.001;
}

std::vector<double> read_factors(const Rotary& r, const char* key) {
  const Json& list = r.parameters.value(key);
  require(list.is_array() && static_cast<std::int64_t>(list.size()) == r.dim / 2,
          ErrorCode::kInvalidInput, "key \"rope_scaling\": \"", key, "\" needs ", r.dim / 2,
          " numbers");
  std::vector<double> out;
  for (const Json& number : list) {
    require(number.is_number() && number > 0, ErrorCode::kInvalidInput, "key \"rope_scaling\": \"",
            key, "\" holds ", number.dump());
    out.push_back(number.get<double>());
  }
  return out;
}

/// LongRoPE (Ding et al. 2024) has one table for inputs up to the original context and another one
/// beyond it; Quell has one.
void read_longrope(const Rotary& r, RotaryRecipe& recipe) {
  recipe.kind = RotaryRecipe::Kind::kLongRope;
  recipe.factors = read_factors(r, "short_factor");
  const std::vector<double> beyond = read_factors(r, "long_factor");
  if (recipe.factors != beyond &&
      static_cast<double>(r.max_position_embeddings) > r.original_positions)
    r.parameters.refuse("long_factor",
                        "longrope takes these frequencies for inputs beyond " +
                            std::to_string(static_cast<std::int64_t>(r.original_positions)) +
                            " tokens, and Quell one table for all lengths");

  const double factor = extension(r);
  const double suggested =
      factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(r.original_positions));
  recipe.amplitude = json_number(r.parameters, "attention_factor", suggested);
}

/// Whole heads are rotated, the last dimensions of each half not at all.
void read_proportional(const Rotary& r, double part, RotaryRecipe& recipe) {
  recipe.kind = RotaryRecipe::Kind::kProportional;
  const double rotated = std::floor(part * static_cast<double>(r.head_dim) / 2);
  recipe.dim = 2 * static_cast<std::int64_t>(rotated);
  if (r.parameters.has("factor")) recipe.factor = needed(r.parameters, "factor");
}

/// A key of other families beside the ones that count here: the reference does not read it, so it
/// must say the same.
void refuse_if_different(const Settings& config, const char* key, double used) {
  if (config.has(key) && json_number(config, key, 0) != used)
    config.refuse(key, str("the reference takes ", used, " here"));
  config.value(key);
}

/// The section that counts: rope_scaling wins over rope_parameters unless it is empty.
Settings parameters_of(const Settings& config) {
  const Settings older = config.section("rope_scaling"), newer = config.section("rope_parameters");
  if (older.json().empty()) return newer;
  config.value("rope_parameters");
  return older;
}

}  // namespace

RotaryRecipe read_rotary(const Settings& config, std::int64_t head_dim,
                         std::int64_t max_position_embeddings, const RotaryKeys& keys) {
  Rotary r{.parameters = parameters_of(config),
           .head_dim = head_dim,
           .max_position_embeddings = max_position_embeddings};
  for (const auto& [key, value] : r.parameters.json().items())
    if (value.is_object())
      r.parameters.refuse(key,
                          "rotary positions of their own for a type of layers are not supported");

  r.theta =
      json_number(r.parameters, "rope_theta", read_number(config, keys.theta, keys.default_theta));
  require(r.theta > 0, ErrorCode::kInvalidInput, "key \"", keys.theta, "\": must be positive");
  const double beside =
      keys.part != nullptr ? read_number(config, keys.part, keys.default_part) : 1.0;
  const double part = json_number(r.parameters, "partial_rotary_factor", beside);
  require(part > 0 && part <= 1, ErrorCode::kInvalidInput,
          "key \"partial_rotary_factor\": must be in (0, 1]");

  if (std::string_view(keys.theta) != "rope_theta")
    refuse_if_different(config, "rope_theta", r.theta);
  if (keys.part == nullptr || std::string_view(keys.part) != "partial_rotary_factor")
    refuse_if_different(config, "partial_rotary_factor", part);

  r.original_positions = json_number(config, "original_max_position_embeddings",
                                     json_number(r.parameters, "original_max_position_embeddings",
                                                 static_cast<double>(max_position_embeddings)));
  require(r.original_positions > 0, ErrorCode::kInvalidInput,
          "key \"original_max_position_embeddings\": must be positive");
  r.dim = static_cast<std::int64_t>(static_cast<double>(head_dim) * part);

  const std::string type =
      json_string(r.parameters, "rope_type", json_string(r.parameters, "type", "default"));
  r.parameters.value("type");
  RotaryRecipe recipe{.theta = r.theta, .head_dim = r.head_dim};
  if (type == "proportional") {
    read_proportional(r, part, recipe);
    return recipe;
  }
  if (part != 1 && keys.part == nullptr) {
    r.parameters.refuse("partial_rotary_factor", "this family rotates whole heads");
    r.dim = head_dim;
  }
  require(r.dim > 0 && r.dim % 2 == 0, ErrorCode::kInvalidInput, "rotary size ", r.dim,
          " of a head is odd; rotary embeddings need pairs");
  recipe.dim = r.dim;

  if (type == "default") return recipe;
  if (type == "linear") {
    recipe.kind = RotaryRecipe::Kind::kLinear;
    recipe.factor = needed(r.parameters, "factor");
  } else if (type == "dynamic") {
    // Counts beyond max_position_embeddings alone, where Quell does not go.
    needed(r.parameters, "factor");
  } else if (type == "llama3") {
    read_llama3(r, recipe);
  } else if (type == "yarn") {
    read_yarn(r, recipe);
  } else if (type == "longrope") {
    read_longrope(r, recipe);
  } else {
    throw Error(ErrorCode::kUnsupported,
                "key \"rope_scaling\": type \"" + type + "\" is not supported");
  }
  return recipe;
}

}  // namespace quell
