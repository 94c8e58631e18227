// A hash of tensors and texts, by which work is known again.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "quell/tensor/tensor.h"

namespace quell {

/// 128 bits, eight bytes at a time. Not meant to resist anyone.
class TensorHash {
 public:
  void add(const void* data, std::size_t size) {
    const char* p = static_cast<const char*>(data);
    word(size);
    for (; size >= 8; size -= 8, p += 8) {
      std::uint64_t w;
      std::memcpy(&w, p, 8);
      word(w);
    }
    std::uint64_t rest = 0;
    if (size > 0) std::memcpy(&rest, p, size);
    word(rest);
  }
  void add(const std::string& text) { add(text.data(), text.size()); }
  void add(const Tensor& t) {
    word(static_cast<std::uint64_t>(t.numel()));
    if (t.numel() > 0) add(t.view().raw(), t.view().num_bytes());
  }
  void add(const std::vector<std::int32_t>& v) { add(v.data(), v.size() * sizeof(v[0])); }
  std::string text() const {
    std::ostringstream out;
    out << std::hex << a_ << '-' << b_;
    return out.str();
  }

 private:
  void word(std::uint64_t w) {
    a_ = (std::rotl(a_, 27) ^ w) * 0x9E3779B97F4A7C15U;
    b_ = (std::rotl(b_, 31) + w) * 0xC2B2AE3D27D4EB4FU;
    a_ ^= a_ >> 29;
    b_ ^= b_ >> 32;
  }
  std::uint64_t a_ = 0x243F6A8885A308D3U, b_ = 0x13198A2E03707344U;
};

}  // namespace quell
