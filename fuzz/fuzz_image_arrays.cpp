// Any bytes as an IDX file, plain or compressed, and as a CIFAR binary: images, or quell::Error.
#include "quell/base/error.h"
#include "quell/vision/cifar_file.h"
#include "quell/vision/idx_file.h"

namespace {

/// A small file compressed well may stand for gigabytes.
constexpr std::size_t kLargest = 1 << 16;

void read_idx(std::span<const std::byte> bytes) {
  if (!quell::is_idx(bytes, "fuzz")) return;
  const quell::IdxArray array = quell::parse_idx(bytes, "fuzz");
  (void)quell::idx_image(array, array.sizes[0] - 1, "fuzz");
}

void read_cifar(std::span<const std::byte> bytes) {
  const quell::CifarFile file(bytes, "fuzz");
  if (file.label(file.size() - 1) >= file.num_classes()) __builtin_trap();
  (void)file.image(file.size() - 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), std::min(size, kLargest));
  for (const auto read : {read_idx, read_cifar}) {
    try {
      read(bytes);
    } catch (const quell::Error&) {
    }
  }
  return 0;
}
