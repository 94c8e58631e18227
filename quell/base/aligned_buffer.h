// Memory aligned for the widest vector loads.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace quell {

inline constexpr std::size_t kAlignment = 64;

enum class Fill { kZero, kNone };

/// Owns `size` bytes aligned to `kAlignment`, zero-filled unless told otherwise. Movable, not copyable.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size, Fill fill = Fill::kZero);

  std::byte* data() noexcept { return data_.get(); }
  const std::byte* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const noexcept { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace quell
