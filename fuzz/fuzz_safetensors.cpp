// Any bytes as a safetensors file: accepted or refused with quell::Error, nothing else.
#include "quell/base/error.h"
#include "quell/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const quell::SafetensorsFile file({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    for (const auto& [name, view] : file.tensors()) (void)quell::to_f32(view, name, true).numel();
  } catch (const quell::Error&) {
  }
  return 0;
}
