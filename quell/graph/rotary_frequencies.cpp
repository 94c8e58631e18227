// Frequencies of rotary positions in f32, step by step as the reference computes them.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "quell/graph/ops.h"

namespace quell {
namespace {

/// theta^(2i / dim).
std::vector<float> wavelengths(double theta, std::int64_t count, std::int64_t dim) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < count; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    out.push_back(std::pow(static_cast<float>(theta), exponent));
  }
  return out;
}

std::vector<float> plain(const RotaryRecipe& r) {
  std::vector<float> out = wavelengths(r.theta, r.dim / 2, r.dim);
  for (float& f : out) f = 1.0F / f;
  return out;
}

std::vector<float> linear(const RotaryRecipe& r) {
  std::vector<float> out = plain(r);
  for (float& f : out) f /= static_cast<float>(r.factor);
  return out;
}

/// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, those between
/// interpolated.
std::vector<float> llama3(const RotaryRecipe& r) {
  const double low = r.low_freq_factor;
  const double high = r.high_freq_factor;
  const double context = r.original_positions;

  std::vector<float> out = plain(r);
  for (float& f : out) {
    const auto kept = static_cast<double>(f);
    const double wavelength = 2 * std::numbers::pi / kept;
    if (wavelength < context / high) continue;
    if (wavelength > context / low) {
      f = static_cast<float>(kept / r.factor);
      continue;
    }
    const double smooth = (context / wavelength - low) / (high - low);
    f = static_cast<float>((1 - smooth) * kept / r.factor + smooth * kept);
  }
  return out;
}

/// YaRN (Peng et al. 2023): fast dimensions are kept, slow ones divided by `factor`, with a ramp
/// between.
std::vector<float> yarn(const RotaryRecipe& r) {
  std::vector<float> out = wavelengths(r.theta, r.dim / 2, r.dim);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double along = (static_cast<double>(i) - r.low) / (r.high - r.low);
    const auto ramp = static_cast<float>(std::clamp(along, 0.0, 1.0));
    const float kept = 1.0F - ramp;
    out[i] = 1.0F / (static_cast<float>(r.factor) * out[i]) * (1.0F - kept) + 1.0F / out[i] * kept;
  }
  return out;
}

/// LongRoPE (Ding et al. 2024): a factor for each pair.
std::vector<float> longrope(const RotaryRecipe& r) {
  std::vector<float> out = wavelengths(r.theta, r.dim / 2, r.dim);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = 1.0F / (static_cast<float>(r.factors[i]) * out[i]);
  return out;
}

/// Whole heads are rotated, the last dimensions of each half not at all.
std::vector<float> proportional(const RotaryRecipe& r) {
  std::vector<float> out = wavelengths(r.theta, r.dim / 2, r.head_dim);
  for (float& f : out) f = 1.0F / f / static_cast<float>(r.factor);
  out.resize(static_cast<std::size_t>(r.head_dim / 2), 0.0F);
  return out;
}

}  // namespace

std::vector<float> rotary_frequencies(const RotaryRecipe& recipe) {
  switch (recipe.kind) {
    case RotaryRecipe::Kind::kPlain: return plain(recipe);
    case RotaryRecipe::Kind::kLinear: return linear(recipe);
    case RotaryRecipe::Kind::kLlama3: return llama3(recipe);
    case RotaryRecipe::Kind::kYarn: return yarn(recipe);
    case RotaryRecipe::Kind::kLongRope: return longrope(recipe);
    case RotaryRecipe::Kind::kProportional: return proportional(recipe);
  }
  return {};
}

}  // namespace quell
