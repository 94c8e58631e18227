#include "quell/quant/packed_codes.h"

#include <gtest/gtest.h>

#include "quell/base/random.h"

namespace quell {
namespace {

TEST(PackedCodes, LieInWordsLowestBitsFirst) {
  const std::vector<std::int32_t> codes = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const Tensor nibbles = pack_codes(codes, 1, 9, 4);
  ASSERT_EQ(nibbles.shape(), (Shape{1, 2}));
  EXPECT_EQ(static_cast<std::uint32_t>(nibbles.as<std::int32_t>()[0]), 0x87654321U);
  EXPECT_EQ(nibbles.as<std::int32_t>()[1], 9);

  // The eleventh code of 3 bits lies in two words.
  const std::vector<std::int32_t> threes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
  const Tensor words = pack_codes(threes, 1, 11, 3);
  EXPECT_EQ(static_cast<std::uint32_t>(words.as<std::int32_t>()[0]), 3U << 30);
  EXPECT_EQ(words.as<std::int32_t>()[1], 1);
}

TEST(PackedCodes, ComeBackAsTheyWere) {
  Random random(1);
  for (int bits = 1; bits <= 8; ++bits)
    for (const std::int64_t columns : {1, 7, 31, 32, 33, 64, 100}) {
      constexpr std::int64_t kRows = 3;
      std::vector<std::int32_t> codes(static_cast<std::size_t>(kRows * columns));
      for (std::int32_t& c : codes) c = static_cast<std::int32_t>(random.uniform() * (1 << bits));
      const Tensor words = pack_codes(codes, kRows, columns, bits);
      EXPECT_EQ(words.cols(), packed_words(columns, bits));
      EXPECT_EQ(unpack_codes(words.as<std::int32_t>(), kRows, columns, bits), codes)
          << bits << " bits, " << columns << " columns";
    }
}

}  // namespace
}  // namespace quell
