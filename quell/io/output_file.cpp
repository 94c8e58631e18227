#include "quell/io/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "quell/base/error.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

fs::path temporary_beside(const fs::path& path) {
  fs::path clean = path;
  if (!clean.has_filename()) clean = clean.parent_path();  // "out/" -> "out"
  return clean.parent_path() / ("." + clean.filename().string() + ".quell-tmp-" + std::to_string(::getpid()));
}

}  // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)), temporary_(temporary_beside(path_)) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) throw Error(ErrorCode::kIo, str(path_.string(), ": cannot write: ", std::strerror(errno)));
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
  fs::remove_all(temporary_, ec);
  fs::create_directory(temporary_, ec);
  if (ec) throw Error(ErrorCode::kIo, path_.string() + ": cannot create the output directory: " + ec.message());
}

OutputDirectory::~OutputDirectory() {
  std::error_code ec;
  if (!temporary_.empty()) fs::remove_all(temporary_, ec);
}

void OutputDirectory::commit() {
  std::error_code ec;
  const fs::path old = temporary_.string() + ".old";
  if (fs::exists(path_, ec)) fs::rename(path_, old, ec);
  if (!ec) fs::rename(temporary_, path_, ec);
  if (ec) {
    std::error_code ignored;
    if (fs::exists(old, ignored) && !fs::exists(path_, ignored)) fs::rename(old, path_, ignored);
    throw Error(ErrorCode::kIo, path_.string() + ": cannot rename the finished output into place: " + ec.message());
  }
  fs::remove_all(old, ec);
  temporary_.clear();
}

}  // namespace quell
