#include "quell/base/scratch_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "quell/base/error.h"

namespace quell {
namespace {

std::size_t page_size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

std::size_t whole_pages(std::size_t size) {
  return (size + page_size() - 1) / page_size() * page_size();
}

}  // namespace

ScratchFile::ScratchFile(const std::filesystem::path& directory) : directory_(directory) {
  std::string name = (directory / ".quell-scratch-XXXXXX").string();
  fd_ = ::mkostemp(name.data(), O_CLOEXEC);
  require(fd_ >= 0, ErrorCode::kIo, directory.string(),
          ": cannot create a scratch file: ", std::strerror(errno));
  ::unlink(name.c_str());
}

ScratchFile::~ScratchFile() { ::close(fd_); }

std::byte* ScratchFile::map(std::size_t size) {
  const std::size_t bytes = whole_pages(size);
  const std::lock_guard lock(mutex_);
  // Without its blocks on the disk, a write into the mapping would end the process.
  const int error = ::posix_fallocate(fd_, static_cast<off_t>(end_), static_cast<off_t>(bytes));
  require(error == 0, ErrorCode::kIo, directory_.string(), ": no room for ", bytes >> 20,
          " MiB of scratch: ", std::strerror(error));
  void* data =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, static_cast<off_t>(end_));
  require(data != MAP_FAILED, ErrorCode::kIo, directory_.string(),
          ": cannot map the scratch file: ", std::strerror(errno));
  end_ += bytes;
  return static_cast<std::byte*>(data);
}

void ScratchFile::unmap(std::byte* data, std::size_t size) noexcept {
  ::madvise(
      data, whole_pages(size),
      MADV_REMOVE);  // a hole; where the file system has none, the space stays taken till the end
  ::munmap(data, whole_pages(size));
}

void drop_pages(const std::byte* data, std::size_t size) noexcept {
  const std::size_t page = page_size(), address = reinterpret_cast<std::size_t>(data);
  const std::size_t begin = whole_pages(address), end = (address + size) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace quell
