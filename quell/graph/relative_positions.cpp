#include "quell/graph/relative_positions.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/kernels/sgemm/sgemm.h"

namespace quell {

void add_alibi(float slope, std::span<const std::int32_t> positions, std::int64_t key_length,
               std::span<float> scores) {
  const auto m = static_cast<std::size_t>(key_length);
  for (std::size_t i = 0; i < scores.size(); ++i)
    scores[i] += slope * static_cast<float>(positions[i % m]);
}

std::vector<float> alibi_slopes(std::int64_t num_heads) {
  std::int64_t power = 1;
  while (2 * power <= num_heads) power *= 2;
  const auto base = [](std::int64_t heads) {
    return std::pow(2.0, -std::pow(2.0, -(std::log2(static_cast<double>(heads)) - 3)));
  };
  std::vector<float> slopes;
  for (std::int64_t i = 1; i <= power; ++i)
    slopes.push_back(static_cast<float>(std::pow(base(power), static_cast<double>(i))));
  for (std::int64_t i = 1; static_cast<std::int64_t>(slopes.size()) < num_heads;
       i += 2)  // every other slope of twice as many heads
    slopes.push_back(static_cast<float>(std::pow(base(2 * power), static_cast<double>(i))));
  return slopes;
}

std::int64_t relative_bias_row(const RelativeBiasAttributes& spec, std::int64_t distance) {
  std::int64_t buckets = spec.buckets;
  std::int64_t bucket = 0;
  if (spec.bidirectional) {
    buckets /= 2;
    if (distance > 0) bucket = buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max<std::int64_t>(0, -distance);
  }
  const std::int64_t exact = buckets / 2;
  if (distance < exact) return bucket + distance;
  const float ratio = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(spec.max_distance) /
                                                  static_cast<double>(exact)));
  const auto far = exact + static_cast<std::int64_t>(ratio * static_cast<float>(buckets - exact));
  return bucket + std::min(far, buckets - 1);
}

std::int64_t disentangled_row(const DisentangledSpec& spec, std::int64_t distance) {
  std::int64_t bucket = distance;
  const std::int64_t mid = spec.buckets / 2;
  if (spec.buckets > 0 && spec.max_distance > 0 && std::abs(distance) > mid) {
    const float far =
        std::log(static_cast<float>(std::abs(distance)) / static_cast<float>(mid)) /
        std::log(static_cast<float>(spec.max_distance - 1) / static_cast<float>(mid)) *
        static_cast<float>(mid - 1);
    bucket = (static_cast<std::int64_t>(std::ceil(far)) + mid) * (distance < 0 ? -1 : 1);
  }
  return std::clamp<std::int64_t>(bucket + spec.span, 0, 2 * spec.span - 1);
}

Tensor relative_bias_table(const RelativeBiasAttributes& spec, const Tensor& table,
                           std::int64_t length) {
  const std::int64_t heads = table.cols();
  Tensor out = Tensor::f32({heads * length, length});
  for (std::int64_t i = 0; i < length; ++i)
    for (std::int64_t j = 0; j < length; ++j) {
      const float* row = table.row(relative_bias_row(spec, j - i));
      for (std::int64_t h = 0; h < heads; ++h) out.row(h * length + i)[j] = row[h];
    }
  return out;
}

void add_disentangled(const DisentangledSpec& spec, const AttentionShape& shape, std::int64_t index,
                      const TensorView& q, const TensorView& k, const TensorView& relative_q,
                      const TensorView& relative_k, std::span<float> scores) {
  const SequenceSpan& sequence = shape.sequences[static_cast<std::size_t>(index / shape.num_heads)];
  const std::int64_t n = sequence.q_count, d = shape.head_dim, rows = 2 * spec.span,
                     h = index % shape.num_heads;
  std::vector<float> terms(static_cast<std::size_t>(n * rows));
  const auto project = [&](const TensorView& content, const TensorView& relative) {
    kernels::sgemm(n, rows, d, shape.scale, content.row(sequence.q_begin) + h * d, content.cols(),
                   relative.row(0) + h * d, relative.cols(), true, terms.data(), rows);
  };
  const auto add = [&](bool by_query) {
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        scores[static_cast<std::size_t>(i * n + j)] += terms[static_cast<std::size_t>(
            (by_query ? i : j) * rows + disentangled_row(spec, i - j))];
  };
  if (spec.content_to_position) {
    project(q, relative_k);
    add(true);
  }
  if (spec.position_to_content) {
    project(k, relative_q);
    add(false);
  }
}

Tensor patches(std::span<const float> pixels, std::int64_t batch, std::int64_t channels,
               std::int64_t size, std::int64_t patch) {
  require(static_cast<std::int64_t>(pixels.size()) == batch * channels * size * size,
          ErrorCode::kInvalidInput, "pixels: ", pixels.size(), " values, expected ", batch,
          " images of ", channels, " x ", size, " x ", size);
  const std::int64_t side = size / patch;
  Tensor out = Tensor::f32({batch * side * side, channels * patch * patch});
  for (std::int64_t row = 0; row < out.rows(); ++row) {
    const std::int64_t b = row / (side * side), y0 = row / side % side * patch,
                       x0 = row % side * patch;
    float* to = out.row(row);
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t y = 0; y < patch; ++y, to += patch)
        std::copy_n(pixels.data() + ((b * channels + c) * size + y0 + y) * size + x0, patch, to);
  }
  return out;
}

}  // namespace quell
