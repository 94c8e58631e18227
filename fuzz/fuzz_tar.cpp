// Any bytes as a tar archive: members inside the bytes, or quell::Error.
#include "quell/base/error.h"
#include "quell/vision/tar_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    unsigned sum = 0;
    for (const quell::TarMember& member : quell::list_tar(bytes, "fuzz"))
      for (const std::byte b : member.bytes) sum += std::to_integer<unsigned>(b);
    volatile unsigned used = sum;
    (void)used;
  } catch (const quell::Error&) {
  }
  return 0;
}
