// Files and directories that appear under their final name only when they are complete.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace quell {

/// A file written under a temporary name beside `path`; `commit()` flushes it to disk and renames
/// it. Without a commit the destructor removes it and `path` stays as it was; what a killed process
/// left there is removed by the next that writes to `path`. Links are followed: what they name is
/// replaced. Pipes, devices and open descriptors (/dev/stdout, /dev/fd/N) are written to straight,
/// and so are files whose folder takes no other (read-only, or a mount on the file itself). Every
/// failure throws Error(kIo); an empty path, Error(kUsage).
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t size);
  void commit();

 private:
  void open_temporary();
  void open_straight();
  void truncate();
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_, target_,
      temporary_;  ///< as named, where links lead, and empty where written to straight
  int fd_ = -1;
  bool old_content_ = false;  ///< of a file that is written to straight: still there
};

/// A directory filled under a temporary name beside `path`, whose links are followed. `commit()`
/// renames it; a directory that stood there is replaced only at that moment, and only if `replace`
/// allowed it or it was empty. The working directory of this process is filled instead, so that
/// whoever stands in it sees the files. Without a commit everything written is removed, by the next
/// that writes to `path` where this process is killed.
class OutputDirectory {
 public:
  OutputDirectory(std::filesystem::path path, bool replace);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::filesystem::path& staging() const { return temporary_; }
  void commit();

 private:
  void replace_content(const std::filesystem::path& old);

  std::filesystem::path path_, target_, temporary_;
  int lock_ = -1;
};

/// Held from before any work until its end, so that a second process that wants to write `path`
/// (resolved) ends at once with Error(kIo). The lock goes with its process; its file,
/// ".NAME.quell-lock" beside `path`, with the next that takes it. Where the file system has no
/// locks, a warning says so.
class OutputLock {
 public:
  explicit OutputLock(const std::filesystem::path& path);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

 private:
  std::filesystem::path file_;
  int fd_ = -1;
};

}  // namespace quell
