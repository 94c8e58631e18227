// Pieces of config.json that families of image models share.
#pragma once

#include <string_view>
#include <vector>

#include "quell/graph/image_ops.h"
#include "quell/model/family.h"

namespace quell {

inline constexpr std::int64_t kMaxInputSide = std::int64_t{1} << 14;

/// Activations that image models have beside those of texts; by the names of torch's functions.
std::optional<ActivationKind> image_activation_from_name(std::string_view name);
/// Throws Error(kUnsupported) when the activation is unknown.
ActivationKind read_image_activation(const Config& config, const std::string& key,
                                     const std::string& fallback);
/// The integers in [low, high] under `key`: `count` of them, or any number where that is 0. Throws
/// Error(kInvalidInput).
std::vector<std::int64_t> read_int_list(const Config& config, const std::string& key,
                                        std::size_t count, std::int64_t low, std::int64_t high);
/// A square kernel, with padding that keeps the size of the image at stride 1.
ConvAttributes square_conv(std::int64_t kernel, std::int64_t stride = 1, std::int64_t groups = 1);

}  // namespace quell
