#include "quell/io/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/output_path.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

/// What the names of everything temporary for `path`, which is resolved, begin with; a process
/// number follows.
fs::path temporary_prefix(const fs::path& path) {
  return path.parent_path() / ("." + path.filename().string() + ".quell-tmp-");
}

fs::path temporary_beside(const fs::path& path) {
  return temporary_prefix(path).string() + std::to_string(::getpid());
}

/// Whoever writes holds a lock of its file or directory, where the file system has locks.
bool lock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0; }

/// Throws where another process, of another container perhaps, holds the lock; closes `fd` then.
void lock_for_writing(int fd, const fs::path& path) {
  if (lock(fd) || errno != EWOULDBLOCK) return;
  ::close(fd);
  throw Error(ErrorCode::kIo,
              path.string() + ": another process is writing it; wait, or choose another output");
}

/// Removes what processes that were killed had begun to write to `path`; nothing where no lock
/// tells that they are gone.
void remove_leftovers(const fs::path& path) {
  const fs::path prefix = temporary_prefix(path);
  const std::string begin = prefix.filename().string();
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(prefix.parent_path(), ec)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(begin) ||
        name.find_first_not_of("0123456789", begin.size()) != std::string::npos)
      continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    if (lock(fd)) fs::remove_all(entry.path(), ec);
    ::close(fd);
  }
}

}  // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
  if (const auto descriptor = own_descriptor(path_)) {
    // A second name of what the caller opened: its position and its flags are kept, as a shell's
    // redirection expects.
    fd_ = ::fcntl(*descriptor, F_DUPFD_CLOEXEC, 3);
    if (fd_ < 0) fail("cannot write");
    return;
  }
  const bool names_folder = !path_.empty() && !path_.has_filename();
  target_ = resolve_output(path_);
  struct stat info {};
  const bool exists = ::stat(target_.c_str(), &info) == 0;
  require(!names_folder && !(exists && S_ISDIR(info.st_mode)), ErrorCode::kIo, path_.string(),
          ": is the name of a folder, where a file is to be written; name a file in it");
  if (exists && !S_ISREG(info.st_mode)) {
    open_straight();
    return;
  }
  if (exists && ::access(target_.c_str(), W_OK) != 0) fail("cannot write");

  if (!exists || !is_mount_point(target_)) open_temporary();
  if (fd_ < 0 && exists) {
    open_straight();
    old_content_ = true;
  }
  if (fd_ < 0) fail("cannot write");
  if (exists && !old_content_) ::fchmod(fd_, info.st_mode & 0777);
}

void OutputFile::open_temporary() {
  remove_leftovers(target_);
  temporary_ = temporary_beside(target_);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd_ < 0) {
    temporary_.clear();
    return;
  }
  lock_for_writing(fd_, path_);
  truncate();
}

void OutputFile::open_straight() {
  fd_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (fd_ < 0) fail("cannot write");
}

void OutputFile::truncate() {
  if (::ftruncate(fd_, 0) == 0 || errno == EINVAL) return;
  const int error = errno;
  ::close(std::exchange(fd_, -1));
  errno = error;
  fail("cannot write");
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::fail(const char* what) const {
  throw Error(ErrorCode::kIo, str(path_.string(), ": ", what, ": ", std::strerror(errno)));
}

void OutputFile::write(const void* data, std::size_t size) {
  if (std::exchange(old_content_, false)) truncate();
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd_, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(temporary_.empty() ? "write failed" : "write failed (is the disk full?)");
    p += n;
    size -= static_cast<std::size_t>(n);
  }
}

void OutputFile::commit() {
  if (std::exchange(old_content_, false)) truncate();
  if (!temporary_.empty() && ::fsync(fd_) != 0 && errno != EINVAL) fail("flush to disk failed");
  if (::close(std::exchange(fd_, -1)) != 0) {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    fail("close failed");
  }
  if (!temporary_.empty() && ::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    errno = error;
    fail("rename failed");
  }
}

OutputDirectory::OutputDirectory(fs::path path, bool replace)
    : path_(std::move(path)), target_(resolve_output(path_)) {
  std::error_code ec;
  const bool exists = fs::exists(target_, ec);
  if (exists && !fs::is_directory(target_, ec))
    throw Error(ErrorCode::kIo,
                path_.string() + ": exists and is not a directory; choose another output");
  // What is mounted cannot be replaced, and what lies beside it is on another disk.
  if (exists && is_mount_point(target_))
    throw Error(ErrorCode::kIo, path_.string() +
                                    ": is a mount point; name a new folder in it, such as " +
                                    (target_ / "quantized").string());
  if (exists && ::access(target_.c_str(), W_OK) != 0)
    throw Error(ErrorCode::kIo, path_.string() + ": cannot write: " + std::strerror(errno));
  if (exists && !replace && !fs::is_empty(target_, ec))
    throw Error(
        ErrorCode::kIo,
        path_.string() + ": exists and is not empty; choose another output or pass --force");
  remove_leftovers(target_);
  temporary_ = temporary_beside(target_);
  fs::create_directory(temporary_, ec);
  if (ec)
    throw Error(ErrorCode::kIo,
                path_.string() + ": cannot create the output directory: " + ec.message());
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
  std::error_code ec;
  const fs::path old = temporary_.string() + ".old";
  if (fs::equivalent(target_, ".", ec)) return replace_content(old);
  // In one step, so that a process that is killed leaves the old or the new; the destructor removes
  // what was replaced.
  if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0)
    return;
  ec.clear();
  if (fs::exists(target_, ec))
    fs::rename(target_, old, ec);  // of file systems that cannot exchange
  if (!ec) fs::rename(temporary_, target_, ec);
  if (ec) {
    std::error_code ignored;
    if (fs::exists(old, ignored) && !fs::exists(target_, ignored))
      fs::rename(old, target_, ignored);
    throw Error(ErrorCode::kIo,
                path_.string() + ": cannot rename the finished output into place: " + ec.message());
  }
  fs::remove_all(old, ec);
}

/// config.json comes last: without it nobody takes the directory for a model.
void OutputDirectory::replace_content(const fs::path& old) {
  try {
    fs::create_directory(old);
    for (const auto& entry : fs::directory_iterator(target_))
      fs::rename(entry.path(), old / entry.path().filename());
    for (const auto& entry : fs::directory_iterator(temporary_))
      if (entry.path().filename() != "config.json")
        fs::rename(entry.path(), target_ / entry.path().filename());
    if (fs::exists(temporary_ / "config.json"))
      fs::rename(temporary_ / "config.json", target_ / "config.json");
    fs::remove_all(old);
  } catch (const fs::filesystem_error& e) {
    throw Error(ErrorCode::kIo, path_.string() + ": cannot move the finished output into place: " +
                                    e.code().message());
  }
}

OutputLock::OutputLock(const fs::path& path)
    : file_(path.parent_path() / ("." + path.filename().string() + ".quell-lock")) {
  while (true) {
    // Open for writing, without which network file systems lock nothing exclusively.
    fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd_ < 0)
      throw Error(ErrorCode::kIo,
                  str(path.string(), ": cannot write beside it: ", std::strerror(errno)));
    const bool locked = lock(fd_);
    if (!locked && errno == EWOULDBLOCK) {
      ::close(std::exchange(fd_, -1));
      throw Error(
          ErrorCode::kIo,
          path.string() + ": another process is writing it; wait, or choose another output");
    }
    if (!locked)
      log(LogLevel::kWarning,
          str(path.string(), ": this file system has no locks (", std::strerror(errno),
              "); see to it that no other run writes the same output"));

    // Whoever held the lock before may have removed its file between the two calls: then another
    // process can lock a new one.
    struct stat opened {
    }, named{};
    const bool same = ::fstat(fd_, &opened) == 0 && ::stat(file_.c_str(), &named) == 0 &&
                      opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
    if (same) return;
    ::close(std::exchange(fd_, -1));
  }
}

OutputLock::~OutputLock() {
  ::unlink(file_.c_str());
  ::close(fd_);
}

}  // namespace quell
