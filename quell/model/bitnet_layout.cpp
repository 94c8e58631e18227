#include "quell/model/bitnet_layout.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/stored_codes.h"
#include "quell/model/tensor_names.h"

namespace quell {
namespace {

using Weights = BitNetSettings::Weights;

constexpr std::int64_t kRowsInByte = 4;
constexpr float kLeastMean = 1e-5F;

constexpr QuantSpec kTernary = {.num_bits = 2, .granularity = Granularity::kPerTensor};
/// Steps are max|x| / 127 in the reference too. It keeps max|x| at 1e-5 or more, and
/// calculate_qparams the step at 2^-23 or more: rows below 1.5e-5 get a slightly coarser step than
/// there.
constexpr QuantSpec kTokenCodes = {.num_bits = 8,
                                   .granularity = Granularity::kPerToken,
                                   .dynamic = true,
                                   .codes = CodeRange::kFull};

QTensor ternary(const Shape& shape, float step) {
  QTensor q;
  q.spec = kTernary;
  q.qparams.scale = Tensor::f32({1});
  q.qparams.scale.f32()[0] = step;
  q.qparams.zero_point = Tensor(DType::kI32, {1});
  q.codes = Tensor(DType::kI16, shape);
  return q;
}

bool is_head(const ParamDef& def) {
  return def.role == Role::kLmHead || def.role == Role::kClassifier;
}

class BitNetLayout final : public QuantizedLayout {
 public:
  BitNetLayout(const Checkpoint& checkpoint, BitNetSettings settings)
      : checkpoint_(checkpoint), settings_(std::move(settings)) {}

  bool holds(const Graph& graph, ParamId p, const std::string& weight_name) const override {
    const ParamDef& def = graph.param(p);
    if (!is_linear(graph, p) || is_listed(def.module)) return false;
    if (!is_head(def)) return true;
    // Versions of transformers differ in what a list without the head says of it.
    require(settings_.weights != Weights::kFloats || !settings_.float_modules,
            ErrorCode::kUnsupported, checkpoint_.config().file(),
            ": key \"quantization_config\": modules_to_not_convert does not name \"", def.module,
            "\"; add it, if it stays float");
    return checkpoint_.tensors().contains(scale_name(weight_name));
  }

  QuantizedModule read(const ParamDef& def, const std::string& weight_name, const Shape& shape,
                       std::set<std::string>& used) const override {
    const bool is_simple = def.packing.plain() && (def.role == Role::kNone || is_head(def));
    require(is_simple, ErrorCode::kUnsupported, checkpoint_.source_of(weight_name), ": tensor \"",
            weight_name, "\": bitnet codes of such a module are not supported");

    QuantizedModule module;
    module.input.spec = kTokenCodes;
    if (settings_.weights == Weights::kFloats) {
      module.weight = quantize_by_mean(read_floats(weight_name, shape, used));
      return module;
    }

    const TensorView& stored = need_tensor(checkpoint_, weight_name, used);
    const TensorView& stored_scale = need_tensor(checkpoint_, scale_name(weight_name), used);
    const float scale = read_scales(stored_scale, scale_name(weight_name), 1).f32()[0];
    const bool is_divided = settings_.weights == Weights::kDividedByScale;
    module.weight = ternary(shape, is_divided ? 1.0F / scale : scale);
    if (!is_divided) module.bias_scale = scale;
    if (stored.dtype() == DType::kU8)
      unpack(weight_name, stored, module.weight.codes);
    else
      take_codes(weight_name, read_floats(weight_name, shape, used), module.weight.codes);
    return module;
  }

 private:
  static std::string scale_name(const std::string& weight_name) { return weight_name + "_scale"; }

  /// As transformers matches names: a module with all inside it, or the end of a name.
  bool is_listed(const std::string& module) const {
    if (!settings_.float_modules) return false;
    const std::vector<std::string>& names = *settings_.float_modules;
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return (module + ".").starts_with(name + ".") || module.ends_with(name);
    });
  }

  Tensor read_floats(const std::string& name, const Shape& shape,
                     std::set<std::string>& used) const {
    const TensorView& stored = need_tensor(checkpoint_, name, used);
    require_float(checkpoint_, name, stored);
    require_shape(name, stored, shape);
    return to_f32(stored, name);
  }

  void require_shape(const std::string& name, const TensorView& stored, const Shape& shape) const {
    require(stored.shape() == shape, ErrorCode::kInvalidInput, checkpoint_.source_of(name),
            ": tensor \"", name, "\" has shape ", stored.shape().to_string(), ", config.json says ",
            shape.to_string());
  }

  void unpack(const std::string& name, const TensorView& stored, Tensor& codes) const {
    constexpr unsigned kMask = 3;
    const std::int64_t rows = codes.rows();
    require(rows % kRowsInByte == 0, ErrorCode::kUnsupported, checkpoint_.source_of(name),
            ": tensor \"", name, "\": ", rows,
            " rows of bitnet codes, four of which lie in a byte");
    const std::int64_t block = rows / kRowsInByte, columns = codes.cols();
    require_shape(name, stored, {block, columns});

    const std::span<const std::uint8_t> bytes = stored.as<std::uint8_t>();
    const std::span<std::int16_t> out = codes.as<std::int16_t>();
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto from = static_cast<std::size_t>(row % block * columns);
      const auto to = static_cast<std::size_t>(row * columns);
      const auto shift = static_cast<unsigned>(2 * (row / block));
      for (std::size_t c = 0; c < static_cast<std::size_t>(columns); ++c) {
        const unsigned bits = bytes[from + c] >> shift & kMask;
        require(bits != kMask, ErrorCode::kInvalidInput, checkpoint_.source_of(name), ": tensor \"",
                name, "\": byte ", static_cast<int>(bytes[from + c]), " holds no ternary codes");
        out[to + c] = static_cast<std::int16_t>(static_cast<int>(bits) - 1);
      }
    }
  }

  void take_codes(const std::string& name, const Tensor& stored, Tensor& codes) const {
    const std::span<const float> from = stored.f32();
    const std::span<std::int16_t> to = codes.as<std::int16_t>();
    for (std::size_t i = 0; i < from.size(); ++i) {
      require(from[i] == 0 || std::fabs(from[i]) == 1, ErrorCode::kInvalidInput,
              checkpoint_.source_of(name), ": tensor \"", name, "\": ", from[i],
              " is no ternary code");
      to[i] = static_cast<std::int16_t>(from[i]);
    }
  }

  const Checkpoint& checkpoint_;
  BitNetSettings settings_;
};

}  // namespace

std::unique_ptr<QuantizedLayout> make_bitnet_layout(const Checkpoint& checkpoint,
                                                    BitNetSettings settings) {
  return std::make_unique<BitNetLayout>(checkpoint, std::move(settings));
}

QTensor quantize_by_mean(const TensorView& weight) {
  double sum = 0;
  for (const float w : weight.f32()) sum += std::fabs(static_cast<double>(w));
  const double mean = sum / static_cast<double>(weight.numel());
  // As the reference writes it, so that codes at a border are the same.
  const float factor = 1.0F / std::max(static_cast<float>(mean), kLeastMean);

  QTensor q = ternary(weight.shape(), 1.0F / factor);
  const std::span<std::int16_t> codes = q.codes.as<std::int16_t>();
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const float rounded = std::nearbyint(weight.f32()[i] * factor);
    codes[i] = static_cast<std::int16_t>(std::clamp(rounded, -1.0F, 1.0F));
  }
  return q;
}

}  // namespace quell
