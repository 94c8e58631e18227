#include "quell/io/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "quell/base/error.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

/// What the names of everything temporary for `path` begin with; a process number follows.
fs::path temporary_prefix(const fs::path& path) {
  fs::path clean = path;
  if (!clean.has_filename()) clean = clean.parent_path();  // "out/" -> "out"
  return clean.parent_path() / ("." + clean.filename().string() + ".quell-tmp-");
}

fs::path temporary_beside(const fs::path& path) { return temporary_prefix(path).string() + std::to_string(::getpid()); }

/// Whoever writes holds a lock of its file or directory, where the file system has locks.
bool lock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0; }

/// Throws where another process, of another container perhaps, holds the lock; closes `fd` then.
void lock_for_writing(int fd, const fs::path& path) {
  if (lock(fd) || errno != EWOULDBLOCK) return;
  ::close(fd);
  throw Error(ErrorCode::kIo, path.string() + ": another process is writing it; wait, or choose another output");
}

/// Removes what processes that were killed had begun to write to `path`; nothing where no lock tells that they are gone.
void remove_leftovers(const fs::path& path) {
  const fs::path prefix = temporary_prefix(path);
  const std::string begin = prefix.filename().string();
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(prefix.has_parent_path() ? prefix.parent_path() : fs::path("."), ec)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(begin) || name.find_first_not_of("0123456789", begin.size()) != std::string::npos) continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    if (lock(fd)) fs::remove_all(entry.path(), ec);
    ::close(fd);
  }
}

}  // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)), temporary_(temporary_beside(path_)) {
  remove_leftovers(path_);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) throw Error(ErrorCode::kIo, str(path_.string(), ": cannot write: ", std::strerror(errno)));
  lock_for_writing(fd_, path_);
  if (::ftruncate(fd_, 0) != 0 && errno != EINVAL) {
    ::close(fd_);
    throw Error(ErrorCode::kIo, str(path_.string(), ": cannot write: ", std::strerror(errno)));
  }
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void OutputFile::fail(const char* what) const {
  throw Error(ErrorCode::kIo, str(path_.string(), ": ", what, ": ", std::strerror(errno)));
}

void OutputFile::write(const void* data, std::size_t size) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd_, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("write failed (is the disk full?)");
    p += n;
    size -= static_cast<std::size_t>(n);
  }
}

void OutputFile::commit() {
  if (::fsync(fd_) != 0 && errno != EINVAL) fail("flush to disk failed");
  if (::close(std::exchange(fd_, -1)) != 0) {
    ::unlink(temporary_.c_str());
    fail("close failed");
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    errno = error;
    fail("rename failed");
  }
}

OutputDirectory::OutputDirectory(fs::path path, bool replace) : path_(std::move(path)), temporary_(temporary_beside(path_)) {
  std::error_code ec;
  const bool exists = fs::exists(path_, ec);
  if (exists && !fs::is_directory(path_, ec))
    throw Error(ErrorCode::kIo, path_.string() + ": exists and is not a directory; choose another output");
  if (exists && !replace && !fs::is_empty(path_, ec))
    throw Error(ErrorCode::kIo, path_.string() + ": exists and is not empty; choose another output or pass --force");
  remove_leftovers(path_);
  fs::create_directory(temporary_, ec);
  if (ec) throw Error(ErrorCode::kIo, path_.string() + ": cannot create the output directory: " + ec.message());
  lock_ = ::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ >= 0) lock_for_writing(lock_, path_);
  for (const auto& entry : fs::directory_iterator(temporary_, ec)) fs::remove_all(entry.path(), ec);
}

OutputDirectory::~OutputDirectory() {
  std::error_code ec;
  fs::remove_all(temporary_, ec);
  if (lock_ >= 0) ::close(lock_);
}

void OutputDirectory::commit() {
  // In one step, so that a process that is killed leaves the old or the new; the destructor removes what was replaced.
  if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0) return;
  std::error_code ec;
  const fs::path old = temporary_.string() + ".old";  // of file systems that cannot exchange
  if (fs::exists(path_, ec)) fs::rename(path_, old, ec);
  if (!ec) fs::rename(temporary_, path_, ec);
  if (ec) {
    std::error_code ignored;
    if (fs::exists(old, ignored) && !fs::exists(path_, ignored)) fs::rename(old, path_, ignored);
    throw Error(ErrorCode::kIo, path_.string() + ": cannot rename the finished output into place: " + ec.message());
  }
  fs::remove_all(old, ec);
}

}  // namespace quell
