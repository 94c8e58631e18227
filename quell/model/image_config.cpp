#include "quell/model/image_config.h"

#include "quell/base/error.h"
#include "quell/io/json.h"

namespace quell {
namespace {

struct NamedActivation {
  std::string_view name;
  ActivationKind kind;
};

constexpr NamedActivation kImageActivations[] = {
    {"relu6", ActivationKind::kRelu6},          {"hardswish", ActivationKind::kHardSwish},
    {"hard_swish", ActivationKind::kHardSwish}, {"hardtanh", ActivationKind::kHardTanh},
    {"sigmoid", ActivationKind::kSigmoid},      {"sign", ActivationKind::kSign}};

}  // namespace

std::optional<ActivationKind> image_activation_from_name(std::string_view name) {
  for (const NamedActivation& row : kImageActivations)
    if (row.name == name) return row.kind;
  return activation_from_name(name);
}

ActivationKind read_image_activation(const Config& config, const std::string& key,
                                     const std::string& fallback) {
  const std::string name = read_string(config, key, fallback);
  const auto kind = image_activation_from_name(name);
  require(kind.has_value(), ErrorCode::kUnsupported, "key \"", key, "\": activation \"", name,
          "\" is not supported");
  return *kind;
}

std::vector<std::int64_t> read_int_list(const Config& config, const std::string& key,
                                        std::size_t count, std::int64_t low, std::int64_t high) {
  constexpr std::size_t kMost = 64;
  const Json& list = config.value(key);
  const bool fits = list.is_array() && !list.empty() &&
                    (count == 0 ? list.size() <= kMost : list.size() == count);
  const std::string number = count == 0 ? "" : std::to_string(count) + " ";
  require(fits, ErrorCode::kInvalidInput, "key \"", key, "\": must be a list of ", number,
          "numbers");

  std::vector<std::int64_t> out;
  for (const Json& entry : list) out.push_back(json_int(Json{{key, entry}}, key, low, high));
  return out;
}

ConvAttributes square_conv(std::int64_t kernel, std::int64_t stride, std::int64_t groups) {
  const std::int64_t pad = kernel / 2;
  return {.window = {.kernel_height = kernel,
                     .kernel_width = kernel,
                     .stride_height = stride,
                     .stride_width = stride,
                     .padding = {pad, pad, pad, pad}},
          .groups = groups};
}

}  // namespace quell
