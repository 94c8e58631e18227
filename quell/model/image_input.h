// What models that read images take, and batches of them.
#pragma once

#include <optional>
#include <vector>

#include "quell/graph/image_ops.h"
#include "quell/model/model.h"

namespace quell {

/// Channels and size of an image, as the op says that reads the pixels; nothing where none does.
std::optional<ImageAttributes> image_input_of(const Graph& graph);
/// `pixels` of that many images, whatever their size.
TokenBatch batch_of_pixels(const ModelSpec& spec, std::int64_t images, std::vector<float> pixels);
/// `pixels`: [images, channels, height, width], preprocessed. Throws Error(kInvalidInput) where
/// they are no images of the model's size, or the model reads none.
TokenBatch make_image_batch(const Model& model, std::vector<float> pixels);

}  // namespace quell
