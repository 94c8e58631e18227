// Any bytes as a PNG image: pixels, or quell::Error.
#include "quell/base/error.h"
#include "quell/vision/decode_image.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    const quell::Image image = quell::decode_png(bytes, "fuzz", {1 << 18});
    if (image.pixels.size() !=
        static_cast<std::size_t>(image.height * image.width * image.channels))
      __builtin_trap();
  } catch (const quell::Error&) {
  }
  return 0;
}
