// Rotary positions: config.json of transformers 4 and 5 as one table of frequencies and an
// amplitude.
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

/// theta^(2i / dim) in f32, as the reference computes it.
std::vector<float> wavelengths(double theta, std::int64_t count, std::int64_t dim) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < count; ++i)
    out.push_back(
        std::pow(static_cast<float>(theta), static_cast<float>(2 * i) / static_cast<float>(dim)));
  return out;
}

std::vector<float> plain_frequencies(const Rotary& r) {
  std::vector<float> out = wavelengths(r.theta, r.dim / 2, r.dim);
  for (float& f : out) f = 1.0F / f;
  return out;
}

double needed(const Settings& parameters, const char* key) {
  require(parameters.has(key), ErrorCode::kInvalidInput, "key \"rope_scaling\": \"", key,
          "\" is missing");
  const double value = json_number(parameters, key, 0);
  require(value > 0, ErrorCode::kInvalidInput, "key \"rope_scaling\": \"", key,
          "\" must be positive");
  return value;
}

std::vector<float> linear_frequencies(const Rotary& r) {
  const auto factor = static_cast<float>(needed(r.parameters, "factor"));
  std::vector<float> out = plain_frequencies(r);
  for (float& f : out) f /= factor;
  return out;
}

/// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, those between
/// interpolated.
std::vector<float> llama3_frequencies(const Rotary& r) {
  const double factor = needed(r.parameters, "factor"),
               low = needed(r.parameters, "low_freq_factor"),
               high = needed(r.parameters, "high_freq_factor"), context = r.original_positions;
  require(high > low, ErrorCode::kInvalidInput,
          "key \"rope_scaling\": llama3 factors are out of order");

  std::vector<float> out = plain_frequencies(r);
  for (float& f : out) {
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(f);
    if (wavelength < context / high) continue;
    if (wavelength > context / low) {
      f = static_cast<float>(static_cast<double>(f) / factor);
      continue;
    }
    const double smooth = (context / wavelength - low) / (high - low);
    f = static_cast<float>((1 - smooth) * static_cast<double>(f) / factor +
                           smooth * static_cast<double>(f));
  }
  return out;
}

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

/// YaRN (Peng et al. 2023): fast dimensions are kept, slow ones divided by `factor`, with a ramp
/// between; cosines and sines grow.
std::vector<float> yarn_frequencies(const Rotary& r, float& amplitude) {
  const Settings& p = r.parameters;
  const double factor = p.has("factor")
                            ? needed(p, "factor")
                            : static_cast<double>(r.max_position_embeddings) / r.original_positions;
  p.value("factor");

  const double mscale = json_number(p, "mscale", 0),
               mscale_all_dim = json_number(p, "mscale_all_dim", 0);
  const bool both = mscale != 0 && mscale_all_dim != 0;
  const double suggested = both ? yarn_scale(factor, mscale) / yarn_scale(factor, mscale_all_dim)
                                : yarn_scale(factor, 1);
  amplitude = static_cast<float>(json_number(p, "attention_factor", suggested));

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
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;

  std::vector<float> out = wavelengths(r.theta, r.dim / 2, r.dim);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto ramp =
        static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
    const float kept = 1.0F - ramp;
    out[i] = 1.0F / (static_cast<float>(factor) * out[i]) * (1.0F - kept) + 1.0F / out[i] * kept;
  }
  return out;
}

std::vector<float> read_factors(const Rotary& r, const char* key) {
  const Json& list = r.parameters.value(key);
  require(list.is_array() && static_cast<std::int64_t>(list.size()) == r.dim / 2,
          ErrorCode::kInvalidInput, "key \"rope_scaling\": \"", key, "\" needs ", r.dim / 2,
          " numbers");
  std::vector<float> out;
  for (const Json& number : list) {
    require(number.is_number() && number > 0, ErrorCode::kInvalidInput, "key \"rope_scaling\": \"",
            key, "\" holds ", number.dump());
    out.push_back(number.get<float>());
  }
  return out;
}

/// LongRoPE (Ding et al. 2024) has one table for inputs up to the original context and another one
/// beyond it; Quell has one.
std::vector<float> longrope_frequencies(const Rotary& r, float& amplitude) {
  const std::vector<float> within = read_factors(r, "short_factor"),
                           beyond = read_factors(r, "long_factor");
  if (within != beyond && static_cast<double>(r.max_position_embeddings) > r.original_positions)
    r.parameters.refuse("long_factor",
                        "longrope takes these frequencies for inputs beyond " +
                            std::to_string(static_cast<std::int64_t>(r.original_positions)) +
                            " tokens, and Quell one table for all lengths");

  const double factor = r.parameters.has("factor")
                            ? needed(r.parameters, "factor")
                            : static_cast<double>(r.max_position_embeddings) / r.original_positions;
  const double suggested =
      factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(r.original_positions));
  amplitude = static_cast<float>(json_number(r.parameters, "attention_factor", suggested));

  std::vector<float> out = wavelengths(r.theta, r.dim / 2, r.dim);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = 1.0F / (within[i] * out[i]);
  return out;
}

/// Whole heads are rotated, the last dimensions of each half not at all.
std::vector<float> proportional_frequencies(const Rotary& r, double part) {
  const auto rotated =
      static_cast<std::int64_t>(std::floor(part * static_cast<double>(r.head_dim) / 2));
  const auto factor =
      static_cast<float>(r.parameters.has("factor") ? needed(r.parameters, "factor") : 1.0);
  std::vector<float> out = wavelengths(r.theta, rotated, r.head_dim);
  for (float& f : out) f = 1.0F / f / factor;
  out.resize(static_cast<std::size_t>(r.head_dim / 2), 0.0F);
  return out;
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

void read_rotary(const Settings& config, AttentionSpec& attention,
                 std::int64_t max_position_embeddings, const RotaryKeys& keys) {
  Rotary r{.parameters = parameters_of(config),
           .head_dim = attention.head_dim,
           .max_position_embeddings = max_position_embeddings};
  for (const auto& [key, value] : r.parameters.json().items())
    if (value.is_object())
      r.parameters.refuse(key,
                          "rotary positions of their own for a type of layers are not supported");

  r.theta = json_number(r.parameters, "rope_theta", read_number(config, keys.theta, 10000.0));
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
  r.dim = static_cast<std::int64_t>(static_cast<double>(attention.head_dim) * part);

  const std::string type =
      json_string(r.parameters, "rope_type", json_string(r.parameters, "type", "default"));
  r.parameters.value("type");
  if (type == "proportional") {
    attention.rotary_inv_freq = proportional_frequencies(r, part);
    return;
  }
  if (part != 1 && keys.part == nullptr) {
    r.parameters.refuse("partial_rotary_factor", "this family rotates whole heads");
    r.dim = attention.head_dim;
  }
  require(r.dim > 0 && r.dim % 2 == 0, ErrorCode::kInvalidInput, "rotary size ", r.dim,
          " of a head is odd; rotary embeddings need pairs");

  if (type == "default") {
    attention.rotary_inv_freq = plain_frequencies(r);
  } else if (type == "linear") {
    attention.rotary_inv_freq = linear_frequencies(r);
  } else if (type == "dynamic") {
    needed(r.parameters,
           "factor");  // counts beyond max_position_embeddings alone, where Quell does not go
    attention.rotary_inv_freq = plain_frequencies(r);
  } else if (type == "llama3") {
    attention.rotary_inv_freq = llama3_frequencies(r);
  } else if (type == "yarn") {
    attention.rotary_inv_freq = yarn_frequencies(r, attention.rotary_amplitude);
  } else if (type == "longrope") {
    attention.rotary_inv_freq = longrope_frequencies(r, attention.rotary_amplitude);
  } else {
    throw Error(ErrorCode::kUnsupported,
                "key \"rope_scaling\": type \"" + type + "\" is not supported");
  }
}

}  // namespace quell
