// Rows of a packed table are those of the dequantized one, bit for bit.
#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/ops/elementwise.h"
#include "quell/quant/packed_table.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

QTensor random_table(const QuantSpec& spec) {
  Random random(6);
  Tensor table = Tensor::f32({7, 24});
  for (float& v : table.f32()) v = static_cast<float>(3 * random.uniform() - 1);
  return quantize_weight(table, spec);
}

std::vector<float> elements_of(const Tensor& t) { return {t.f32().begin(), t.f32().end()}; }

TEST(PackedTable, RowsAreThoseOfTheDequantizedTable) {
  const std::vector<std::int32_t> ids = {6, 0, 3, 3};
  for (const int bits : {2, 3, 4, 5, 8})
    for (const bool symmetric : {true, false})
      for (const Granularity granularity :
           {Granularity::kPerTensor, Granularity::kPerChannel, Granularity::kPerGroup}) {
        SCOPED_TRACE(::testing::Message() << bits << " bits per " << granularity_name(granularity));
        const QTensor codes = random_table({bits, symmetric, granularity, 8});
        const Tensor whole = dequantize(codes);
        Tensor rows = Tensor::f32({4, 24});
        gather_rows(whole, ids, "token id", rows.span());

        const PackedTable table(codes);
        EXPECT_EQ(elements_of(table.look_up(ids, "token id")), elements_of(rows));
        EXPECT_EQ(elements_of(table.dequantize()), elements_of(whole));
      }
}

TEST(PackedTable, TakesTheBitsOfItsCodes) {
  const PackedTable table(random_table({2, true, Granularity::kPerTensor}));
  const std::size_t steps = sizeof(float) + sizeof(std::int32_t);
  const std::size_t words_a_row = 2;  // 24 codes of 2 bits
  EXPECT_EQ(table.bytes(), 7 * words_a_row * sizeof(std::int32_t) + steps);
}

TEST(PackedTable, RefusesAnIdOutside) {
  const PackedTable table(random_table({2, true, Granularity::kPerChannel}));
  const std::vector<std::int32_t> ids = {1, 7};
  try {
    table.look_up(ids, "token id");
    FAIL() << "id 7 of 7 rows";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("token id 7 is outside the table of 7 rows"),
              std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace quell
