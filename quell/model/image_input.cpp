#include "quell/model/image_input.h"

#include "quell/base/error.h"

namespace quell {

std::optional<ImageAttributes> image_input_of(const Graph& graph) {
  for (const Node& node : graph.nodes()) {
    if (node.is(op_image)) return node.attributes.get<ImageAttributes>();
    if (!node.is(op_patches)) continue;
    const auto& p = node.attributes.get<PatchAttributes>();
    return ImageAttributes{.channels = p.num_channels, .size = {p.image_size, p.image_size}};
  }
  return std::nullopt;
}

TokenBatch batch_of_pixels(const ModelSpec& spec, std::int64_t images, std::vector<float> pixels) {
  TokenBatch batch;
  batch.batch = images;
  batch.length = spec.max_position_embeddings;
  batch.mask.assign(static_cast<std::size_t>(batch.rows()), 1);
  batch.ids.assign(batch.mask.size(), 0);
  batch.type_ids = batch.ids;
  batch.pixels = std::move(pixels);
  return batch;
}

TokenBatch make_image_batch(const Model& model, std::vector<float> pixels) {
  const std::optional<ImageAttributes> image = image_input_of(model.graph);
  require(image.has_value(), ErrorCode::kInvalidInput, model.spec.model_type,
          " reads tokens, not images");
  const std::int64_t size = image->channels * image->size.pixels();
  const auto count = static_cast<std::int64_t>(pixels.size());
  require(count > 0 && count % size == 0, ErrorCode::kInvalidInput, "pixels: ", count,
          " values are no images of ", image->channels, " x ", image->size.height, " x ",
          image->size.width);

  return batch_of_pixels(model.spec, count / size, std::move(pixels));
}

}  // namespace quell
