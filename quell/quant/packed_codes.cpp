#include "quell/quant/packed_codes.h"

namespace quell {
namespace {

constexpr int kWordBits = 32;

}  // namespace

std::int64_t packed_words(std::int64_t columns, int num_bits) {
  return (columns * num_bits + kWordBits - 1) / kWordBits;
}

Tensor pack_codes(std::span<const std::int32_t> codes, std::int64_t rows, std::int64_t columns,
                  int num_bits) {
  const std::int64_t words = packed_words(columns, num_bits);
  Tensor out(DType::kI32, {rows, words});
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int32_t* to = out.as<std::int32_t>().data() + r * words;
    std::uint64_t pending = 0;
    int bits = 0;
    for (std::int64_t c = 0; c < columns; ++c) {
      pending |= static_cast<std::uint64_t>(codes[static_cast<std::size_t>(r * columns + c)])
                 << bits;
      bits += num_bits;
      if (bits < kWordBits) continue;
      *to++ = static_cast<std::int32_t>(static_cast<std::uint32_t>(pending));
      pending >>= kWordBits;
      bits -= kWordBits;
    }
    if (bits > 0) *to = static_cast<std::int32_t>(static_cast<std::uint32_t>(pending));
  }
  return out;
}

std::vector<std::int32_t> unpack_codes(std::span<const std::int32_t> words, std::int64_t rows,
                                       std::int64_t columns, int num_bits) {
  const std::int64_t words_a_row = packed_words(columns, num_bits);
  const std::uint64_t mask = (std::uint64_t{1} << num_bits) - 1;
  std::vector<std::int32_t> out(static_cast<std::size_t>(rows * columns));
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int32_t* from = words.data() + r * words_a_row;
    std::uint64_t pending = 0;
    int bits = 0;
    for (std::int64_t c = 0; c < columns; ++c) {
      if (bits < num_bits) {
        pending |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(*from++)) << bits;
        bits += kWordBits;
      }
      out[static_cast<std::size_t>(r * columns + c)] = static_cast<std::int32_t>(pending & mask);
      pending >>= num_bits;
      bits -= num_bits;
    }
  }
  return out;
}

}  // namespace quell
