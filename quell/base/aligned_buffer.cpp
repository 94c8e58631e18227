#include "quell/base/aligned_buffer.h"

#include <cstring>
#include <limits>

namespace quell {

AlignedBuffer::AlignedBuffer(std::size_t size, Fill fill) : size_(size) {
  if (size == 0) return;
  if (size > std::numeric_limits<std::size_t>::max() - kAlignment) throw std::bad_alloc();
  const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)));
  if (!data_) throw std::bad_alloc();
  if (fill == Fill::kZero) std::memset(data_.get(), 0, rounded);
}

}  // namespace quell
