// Read-only files mapped into memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace quell {

/// Owns one mapping. Throws Error(kIo) when the file cannot be opened, is a directory, or cannot be
/// mapped.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  /// What was read leaves this process's memory until it is read again.
  void drop_pages() const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The whole file as text. Throws Error(kIo), and Error(kInvalidInput) above `limit` bytes.
std::string read_text_file(const std::filesystem::path& path,
                           std::size_t limit = std::size_t{1} << 31);

/// Writes `text` under a temporary name, then renames. Throws Error(kIo) and removes the temporary
/// file on failure.
void write_text_file(const std::filesystem::path& path, const std::string& text);

}  // namespace quell
