// Frequencies of rotary positions: in f32 step by step as the reference computes them, and in
// double.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "quell/graph/ops.h"

namespace quell {
namespace {

/// theta^(2i / dim).
template <typename Real>
std::vector<Real> wavelengths(double theta, std::int64_t count, std::int64_t dim) {
  std::vector<Real> out;
  for (std::int64_t i = 0; i < count; ++i) {
    const Real exponent = static_cast<Real>(2 * i) / static_cast<Real>(dim);
    out.push_back(std::pow(static_cast<Real>(theta), exponent));
  }
  return out;
}

template <typename Real>
std::vector<Real> plain(const RotaryRecipe& r) {
  std::vector<Real> out = wavelengths<Real>(r.theta, r.dim / 2, r.dim);
  for (Real& f : out) f = Real{1} / f;
  return out;
}

template <typename Real>
std::vector<Real> linear(const RotaryRecipe& r) {
  std::vector<Real> out = plain<Real>(r);
  for (Real& f : out) f /= static_cast<Real>(r.factor);
  return out;
}

/// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, those between
/// interpolated.
template <typename Real>
std::vector<Real> llama3(const RotaryRecipe& r) {
  const double low = r.low_freq_factor;
  const double high = r.high_freq_factor;
  const double context = r.original_positions;

  std::vector<Real> out = plain<Real>(r);
  for (Real& f : out) {
    const auto kept = static_cast<double>(f);
    const double wavelength = 2 * std::numbers::pi / kept;
    if (wavelength < context / high) continue;
    if (wavelength > context / low) {
      f = static_cast<Real>(kept / r.factor);
      continue;
    }
    const double smooth = (context / wavelength - low) / (high - low);
    f = static_cast<Real>((1 - smooth) * kept / r.factor + smooth * kept);
  }
  return out;
}

/// YaRN (Peng et al. 2023): fast dimensions are kept, slow ones divided by `factor`, with a ramp
/// between.
template <typename Real>
std::vector<Real> yarn(const RotaryRecipe& r) {
  std::vector<Real> out = wavelengths<Real>(r.theta, r.dim / 2, r.dim);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double along = (static_cast<double>(i) - r.low) / (r.high - r.low);
    const auto ramp = static_cast<Real>(std::clamp(along, 0.0, 1.0));
    const Real kept = Real{1} - ramp;
    out[i] = Real{1} / (static_cast<Real>(r.factor) * out[i]) * (Real{1} - kept) +
             Real{1} / out[i] * kept;
  }
  return out;
}

/// LongRoPE (Ding et al. 2024): a factor for each pair.
template <typename Real>
std::vector<Real> longrope(const RotaryRecipe& r) {
  std::vector<Real> out = wavelengths<Real>(r.theta, r.dim / 2, r.dim);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = Real{1} / (static_cast<Real>(r.factors[i]) * out[i]);
  return out;
}

/// Whole heads are rotated, the last dimensions of each half not at all.
template <typename Real>
std::vector<Real> proportional(const RotaryRecipe& r) {
  std::vector<Real> out = wavelengths<Real>(r.theta, r.dim / 2, r.head_dim);
  for (Real& f : out) f = Real{1} / f / static_cast<Real>(r.factor);
  out.resize(static_cast<std::size_t>(r.head_dim / 2), Real{0});
  return out;
}

template <typename Real>
std::vector<Real> frequencies(const RotaryRecipe& recipe) {
  switch (recipe.kind) {
    case RotaryRecipe::Kind::kPlain: return plain<Real>(recipe);
    case RotaryRecipe::Kind::kLinear: return linear<Real>(recipe);
    case RotaryRecipe::Kind::kLlama3: return llama3<Real>(recipe);
    case RotaryRecipe::Kind::kYarn: return yarn<Real>(recipe);
    case RotaryRecipe::Kind::kLongRope: return longrope<Real>(recipe);
    case RotaryRecipe::Kind::kProportional: return proportional<Real>(recipe);
  }
  return {};
}

}  // namespace

std::vector<float> rotary_frequencies(const RotaryRecipe& recipe) {
  return frequencies<float>(recipe);
}

std::vector<double> exact_rotary_frequencies(const RotaryRecipe& recipe) {
  return frequencies<double>(recipe);
}

}  // namespace quell
