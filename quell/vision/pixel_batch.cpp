#include "quell/vision/pixel_batch.h"

#include <algorithm>

#include "quell/base/error.h"

namespace quell {
namespace {

void copy_into(PixelBatch& batch, std::int64_t at, const PixelValues& pixels,
               const std::string& name) {
  require(pixels.size == batch.size, ErrorCode::kInvalidInput, name, ": ", pixels.size.width, " x ",
          pixels.size.height, " pixels when prepared, and the first image of its batch ",
          batch.size.width, " x ", batch.size.height);
  const std::span<const float> values = pixels.values.f32();
  std::copy(values.begin(), values.end(), batch.values.row(at * pixels.values.rows()));
}

}  // namespace

PixelBatch read_pixels(const ImageSource& source, std::int64_t first, std::int64_t count,
                       const Preprocessing& steps, ThreadPool& pool) {
  assert(count > 0 && first >= 0 && first + count <= source.size());
  const auto read = [&](std::int64_t i) {
    return preprocess(source.image(first + i), steps, source.name(first + i));
  };

  const PixelValues leader = read(0);
  PixelBatch batch;
  batch.count = count;
  batch.size = leader.size;
  batch.values =
      Tensor::uninitialized(DType::kF32, {count * leader.values.rows(), leader.values.cols()});
  copy_into(batch, 0, leader, source.name(first));

  pool.parallel_for(count - 1, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin + 1; i < end + 1; ++i)
      copy_into(batch, i, read(i), source.name(first + i));
  });
  return batch;
}

}  // namespace quell
