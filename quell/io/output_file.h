// Files and directories that appear under their final name only when they are complete.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace quell {

/// A file written under a temporary name beside `path`; `commit()` flushes it to disk and renames it. Without a commit the
/// destructor removes it and `path` stays as it was; what a killed process left there is removed by the next that writes to `path`.
/// Every failure throws Error(kIo).
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t size);
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_, temporary_;
  int fd_ = -1;
};

/// A directory filled under a temporary name beside `path`. `commit()` renames it to `path`; a directory that stood there is
/// replaced only at that moment, and only if `replace` allowed it. Without a commit everything written is removed, by the next that
/// writes to `path` where this process is killed.
class OutputDirectory {
 public:
  OutputDirectory(std::filesystem::path path, bool replace);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::filesystem::path& staging() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int lock_ = -1;
};

}  // namespace quell
