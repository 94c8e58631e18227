#include "quell/model/paretoq_layout.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/model/tensor_names.h"

namespace quell {
namespace {

constexpr const char* kClipSuffix = ".weight_clip_val";
constexpr float kLeastClip = 1e-5F;
constexpr float kStretch = 0.99F;  // what reaches the clip still rounds to the last level

/// As `minmax_dynamic` quantizes inputs.
constexpr QuantSpec kAsymmetricTokens = {
    .num_bits = 8, .symmetric = false, .granularity = Granularity::kPerToken, .dynamic = true};

/// What rows of so many bits are: codes of `spec`, each clip / step_divisor.
struct CodeRule {
  QuantSpec spec;
  float step_divisor = 1;
  /// Of a weight divided by its clip.
  float (*code)(float ratio, const QuantSpec& spec) = nullptr;
};

float stretched(float ratio) { return std::clamp(ratio, -kStretch, kStretch); }

CodeRule rule_of(int bits) {
  CodeRule rule;
  rule.spec.granularity = Granularity::kPerChannel;
  rule.spec.num_bits = std::max(bits, 2);
  switch (bits) {
    case 0:
      rule.step_divisor = 1.5F;
      rule.code = [](float ratio, const QuantSpec&) {
        return std::nearbyint(stretched(ratio) * 1.5F);
      };
      break;
    case 1:
      rule.code = [](float ratio, const QuantSpec&) {
        return static_cast<float>((ratio > 0) - (ratio < 0));
      };
      break;
    case 2:
      rule.spec.num_bits = 3;
      rule.step_divisor = 4;
      rule.code = [](float ratio, const QuantSpec&) {
        return 2 * std::nearbyint(stretched(ratio) * 2 - 0.5F) + 1;
      };
      break;
    default:
      rule.spec.codes = CodeRange::kFull;
      rule.code = [](float ratio, const QuantSpec& spec) {
        return std::clamp(std::nearbyint(ratio), static_cast<float>(spec.min_code()),
                          static_cast<float>(spec.max_code()));
      };
  }
  return rule;
}

class ParetoqLayout final : public QuantizedLayout {
 public:
  ParetoqLayout(const Checkpoint& checkpoint, int bits) : checkpoint_(checkpoint), bits_(bits) {}

  bool holds(const Graph& graph, ParamId p, const std::string&) const override {
    return graph.param(p).role == Role::kNone && is_linear(graph, p);
  }

  QuantizedModule read(const ParamDef& def, const std::string& weight_name, const Shape& shape,
                       std::set<std::string>& used) const override {
    const TensorView& stored = need_tensor(checkpoint_, weight_name, used);
    require_float(checkpoint_, weight_name, stored);
    require(def.packing.plain() && stored.shape() == shape, ErrorCode::kInvalidInput,
            checkpoint_.source_of(weight_name), ": tensor \"", weight_name, "\" has shape ",
            stored.shape().to_string(), ", config.json says ", shape.to_string());
    const TensorView& stored_clips = need_tensor(checkpoint_, clip_name(weight_name), used);
    require(stored_clips.numel() == shape[0], ErrorCode::kInvalidInput,
            checkpoint_.source_of(weight_name), ": tensor \"", clip_name(weight_name),
            "\": ", stored_clips.numel(), " clips, expected ", shape[0]);

    const Tensor clips = to_f32(stored_clips, clip_name(weight_name));
    QuantizedModule module;
    module.weight = quantize_by_clip(to_f32(stored, weight_name), clips.f32(), bits_);
    module.input.spec = kAsymmetricTokens;
    return module;
  }

 private:
  static std::string clip_name(const std::string& weight_name) {
    return weight_name.substr(0, weight_name.rfind('.')) + kClipSuffix;
  }

  const Checkpoint& checkpoint_;
  int bits_;
};

}  // namespace

bool has_paretoq_clips(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.tensors().begin(), checkpoint.tensors().end(),
                     [](const auto& tensor) { return tensor.first.ends_with(kClipSuffix); });
}

std::unique_ptr<QuantizedLayout> make_paretoq_layout(const Checkpoint& checkpoint, int bits) {
  log_once(LogLevel::kInfo,
           checkpoint.config().file() +
               ": key \"w_bits\": inputs are floats in ParetoQ, and have 8 bits in the simulated "
               "and integer engines; --engine float leaves them");
  return std::make_unique<ParetoqLayout>(checkpoint, bits);
}

QTensor quantize_by_clip(const TensorView& weight, std::span<const float> clips, int bits) {
  const CodeRule rule = rule_of(bits);
  QTensor q;
  q.spec = rule.spec;
  q.codes = Tensor(DType::kI16, weight.shape());
  q.qparams.scale = Tensor::f32({weight.rows()});
  q.qparams.zero_point = Tensor(DType::kI32, {weight.rows()});

  const std::int64_t columns = weight.cols();
  const std::span<std::int16_t> codes = q.codes.as<std::int16_t>();
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    const float clip = std::max(clips[static_cast<std::size_t>(r)], kLeastClip);
    q.qparams.scale.f32()[static_cast<std::size_t>(r)] = clip / rule.step_divisor;
    for (std::int64_t c = 0; c < columns; ++c) {
      const float code = rule.code(weight.row(r)[c] / clip, rule.spec);
      codes[static_cast<std::size_t>(r * columns + c)] = static_cast<std::int16_t>(code);
    }
  }
  return q;
}

}  // namespace quell
