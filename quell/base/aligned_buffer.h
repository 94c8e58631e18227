// Memory aligned for the widest vector loads.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace quell {

inline constexpr std::size_t kAlignment = 64;

enum class Fill { kZero, kNone };

class ScratchFile;

struct BufferDeleter {
  std::shared_ptr<ScratchFile> scratch = nullptr;  ///< null: on the heap
  std::size_t size = 0;                            ///< of what lies in scratch
  void operator()(std::byte* p) const noexcept;
};

/// Owns `size` bytes aligned to `kAlignment`, zero-filled unless told otherwise. Movable, not
/// copyable.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size, Fill fill = Fill::kZero);
  /// Zeros that lie in `scratch`. Throws Error(kIo) where the disk has no room.
  static AlignedBuffer in(const std::shared_ptr<ScratchFile>& scratch, std::size_t size);

  std::byte* data() noexcept { return data_.get(); }
  const std::byte* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }
  bool in_scratch() const noexcept { return data_.get_deleter().scratch != nullptr; }
  /// Of a buffer in scratch: takes it out of memory until it is read again. Does nothing to others.
  void drop_pages() const noexcept;

 private:
  std::unique_ptr<std::byte, BufferDeleter> data_;
  std::size_t size_ = 0;
};

}  // namespace quell
