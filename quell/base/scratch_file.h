// Memory that lies in a file without a name: more can be held than the machine has, and nothing is
// left behind by a crash.
#pragma once

#include <cstddef>
#include <filesystem>
#include <mutex>

namespace quell {

/// Space on a disk that AlignedBuffers are made in (AlignedBuffer::in); they keep it alive. Any
/// thread may call it.
class ScratchFile {
 public:
  /// In `directory`, which must exist. Throws Error(kIo).
  explicit ScratchFile(const std::filesystem::path& directory);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  /// Maps `size` zeros; their place on the disk is reserved now. Throws Error(kIo) where there is
  /// no room.
  std::byte* map(std::size_t size);
  /// Gives memory and disk back.
  void unmap(std::byte* data, std::size_t size) noexcept;

 private:
  std::filesystem::path directory_;
  std::mutex mutex_;
  std::size_t end_ = 0;  ///< of the part in use; extents given back are holes
  int fd_ = -1;
};

/// Takes the pages of a mapping out of memory, whole pages inside it alone; they come back from the
/// file when they are read.
void drop_pages(const std::byte* data, std::size_t size) noexcept;

}  // namespace quell
