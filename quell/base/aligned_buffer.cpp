#include "quell/base/aligned_buffer.h"

#include <cstring>
#include <limits>

#include "quell/base/scratch_file.h"

namespace quell {

AlignedBuffer::AlignedBuffer(std::size_t size, Fill fill) : size_(size) {
  if (size == 0) return;
  if (size > std::numeric_limits<std::size_t>::max() - kAlignment) throw std::bad_alloc();
  const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)));
  if (!data_) throw std::bad_alloc();
  if (fill == Fill::kZero) std::memset(data_.get(), 0, rounded);
}

AlignedBuffer AlignedBuffer::in(const std::shared_ptr<ScratchFile>& scratch, std::size_t size) {
  AlignedBuffer buffer;
  buffer.size_ = size;
  if (size > 0)
    buffer.data_ =
        std::unique_ptr<std::byte, BufferDeleter>{scratch->map(size), BufferDeleter{scratch, size}};
  return buffer;
}

void AlignedBuffer::drop_pages() const noexcept {
  if (in_scratch()) quell::drop_pages(data(), size_);
}

void BufferDeleter::operator()(std::byte* p) const noexcept {
  if (scratch)
    scratch->unmap(p, size);
  else
    std::free(p);
}

}  // namespace quell
