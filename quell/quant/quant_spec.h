// What a quantizer is: bits, codes, granularity. Vocabulary of compressed-tensors. The numbers are
// defined in docs/numerics.md and follow Outlier Suppression (NeurIPS 2022) and Outlier
// Suppression+ (EMNLP 2023).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quell/tensor/tensor.h"

namespace quell {

enum class Granularity { kPerTensor, kPerChannel, kPerToken, kPerGroup };
/// Symmetric codes of b bits: restricted [-(2^(b-1)-1), 2^(b-1)-1], or full [-2^(b-1), 2^(b-1)-1].
/// Asymmetric codes are 0..2^b-1.
enum class CodeRange { kRestricted, kFull };
/// Step of symmetric codes: amax / (2^(b-1)-1) (OS+), or amax / ((2^b-1)/2) (OS,
/// compressed-tensors).
enum class StepRule { kMaxCode, kHalfRange };

/// How a quotient is taken before rounding: calibration, search and golden tests divide, the
/// engines multiply by 1/s.
enum class Rounding { kDivide, kReciprocal };

struct QuantSpec {
  int num_bits = 8;
  bool symmetric = true;
  Granularity granularity = Granularity::kPerTensor;
  std::int64_t group_size = 0;
  bool dynamic = false;
  CodeRange codes = CodeRange::kRestricted;
  StepRule step_rule = StepRule::kMaxCode;

  int min_code() const;
  int max_code() const;
  bool operator==(const QuantSpec&) const = default;
};

/// Whether the engines divide here too. Steps of half the range, fresh for every row, put the
/// largest negative value of a row on a tie exactly, where a product with 1/s rounds to another
/// code than the quotient that compressed-tensors takes in every fifth row.
bool divides_at_run_time(const QuantSpec& spec);

std::string granularity_name(Granularity g);  // "tensor", "channel", "token", "group"
/// Throws Error(kInvalidInput) unless bits are 2..8 and the group size fits `columns` (ignored when
/// 0).
void validate(const QuantSpec& spec, std::int64_t columns, const std::string& what);

struct Range {
  float min = 0.0F, max = 0.0F;
};

struct StepAndZero {
  float scale = 1.0F;
  std::int32_t zero_point = 0;
  bool operator==(const StepAndZero&) const = default;
};

/// Step and zero point of a range, which is first widened to contain 0. All in f32 as the reference
/// computes it; the step is at least 2^-23 (kMaxCode) or 1e-8 (kHalfRange). With `arithmetic` f16
/// or bf16 every result is rounded to it, as in a model of that type.
StepAndZero calculate_qparams(Range range, const QuantSpec& spec, DType arithmetic = DType::kF32);

/// Values of a quantizer; scale: f32, zero_point: int32, both [groups].
struct QParams {
  Tensor scale, zero_point;
  StepAndZero at(std::int64_t i) const {
    return {scale.f32()[static_cast<std::size_t>(i)],
            zero_point.as<std::int32_t>()[static_cast<std::size_t>(i)]};
  }
};

/// A quantized matrix. codes: int16 [rows, cols] (holds every code of up to 8 bits, signed or not).
struct QTensor {
  QuantSpec spec;
  QParams qparams;
  Tensor codes;
  QTensor clone() const {
    return {spec, {qparams.scale.clone(), qparams.zero_point.clone()}, codes.clone()};
  }
};

/// Channels in groups of one size with a static step each (per-embedding groups: Bondarenko et al.,
/// EMNLP 2021).
struct ChannelGroups {
  std::vector<std::int32_t>
      channels;  ///< [C]: the channel of each column of codes; columns of a group lie side by side
  std::vector<StepAndZero> steps;  ///< a group each
  std::int64_t size() const { return static_cast<std::int64_t>(channels.size() / steps.size()); }
  /// A row [C] of values in the order of the columns.
  void gather(const float* row, float* columns) const {
    for (std::size_t c = 0; c < channels.size(); ++c) columns[c] = row[channels[c]];
  }
  bool operator==(const ChannelGroups&) const = default;
};

/// An activation quantizer; `qparams` holds one scale and zero point when the spec is static,
/// nothing when it is dynamic.
struct ActivationQuant {
  QuantSpec spec;
  StepAndZero qparams;
  /// Take the place of `qparams`, which then is what a reader without groups would use. Of static
  /// quantizers per tensor; shared, as it never changes.
  std::shared_ptr<const ChannelGroups> groups = nullptr;
};
/// One step for the whole tensor, known beforehand.
bool is_static_per_tensor(const ActivationQuant& quant);

/// Quantizers inside attention, in the papers' "standard" scheme.
struct AttentionQuant {
  static constexpr std::array<const char*, 4> kNames = {"query", "key", "value", "probs"};
  std::optional<ActivationQuant> query, key, value, probs;
  /// In the order of their names.
  std::array<std::optional<ActivationQuant>*, 4> points() { return {&query, &key, &value, &probs}; }
  std::array<const std::optional<ActivationQuant>*, 4> points() const {
    return {&query, &key, &value, &probs};
  }
};

}  // namespace quell
