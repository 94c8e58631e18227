// GPTQ: its factor against the definition, and the error it is for.
#include "quell/compress/gptq.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

class Gptq : public ::testing::Test {
 protected:
  /// Inputs whose columns depend on each other, as activations do.
  Gptq() {
    Random random(5);
    const auto draw = [&] { return static_cast<float>(random.uniform() * 2 - 1); };
    for (float& v : w.f32()) v = draw();
    for (std::int64_t t = 0; t < kTokens; ++t) {
      const float common = draw() * 3;
      for (std::int64_t j = 0; j < kColumns; ++j)
        x.row(t)[j] = draw() + common * static_cast<float>(j % 7) / 7.0F;
    }
    for (std::int64_t i = 0; i < kColumns; ++i)
      for (std::int64_t j = 0; j < kColumns; ++j)
        for (std::int64_t t = 0; t < kTokens; ++t) gram.row(i)[j] += x.row(t)[i] * x.row(t)[j];
  }

  double output_error(const QTensor& q) const {
    const Tensor got = dequantize(q);
    double sum = 0;
    for (std::int64_t t = 0; t < kTokens; ++t)
      for (std::int64_t r = 0; r < kRows; ++r) {
        double d = 0;
        for (std::int64_t j = 0; j < kColumns; ++j)
          d += static_cast<double>(x.row(t)[j]) * static_cast<double>(got.row(r)[j] - w.row(r)[j]);
        sum += d * d;
      }
    return sum;
  }

  /// Of one row, with what `damping` adds: in double precision, from the definition.
  double row_error(const QTensor& q, std::int64_t row, double damping) const {
    const Tensor got = dequantize(q);
    double sum = 0, mean = 0;
    for (std::int64_t i = 0; i < kColumns; ++i)
      mean += static_cast<double>(gram.row(i)[i]) / kColumns;
    const auto error = [&](std::int64_t j) {
      return static_cast<double>(got.row(row)[j]) - static_cast<double>(w.row(row)[j]);
    };
    for (std::int64_t i = 0; i < kColumns; ++i)
      for (std::int64_t j = 0; j < kColumns; ++j)
        sum += error(i) * error(j) *
               (static_cast<double>(gram.row(i)[j]) + (i == j ? damping * mean : 0));
    return sum;
  }

  static constexpr std::int64_t kTokens = 300, kRows = 37,
                                kColumns = 150;  // more than one block of the factorization
  Tensor x = Tensor::f32({kTokens, kColumns}), w = Tensor::f32({kRows, kColumns}),
         gram = Tensor::f32({kColumns, kColumns});
  ExecContext ctx{2};
};

TEST_F(Gptq, TheFactorInvertsTheGramMatrix) {
  for (const bool by_size : {false, true}) {
    constexpr double kDamping = 0.01;
    const GptqFactor f = make_gptq_factor(gram, kDamping, by_size, ctx);
    double mean = 0;
    for (std::int64_t i = 0; i < kColumns; ++i)
      mean += static_cast<double>(gram.row(i)[i]) / kColumns;
    const auto h = [&](std::int64_t i, std::int64_t j) {
      return static_cast<double>(gram.row(
                 f.order[static_cast<std::size_t>(i)])[f.order[static_cast<std::size_t>(j)]]) +
             (i == j ? kDamping * mean : 0.0);
    };
    for (std::int64_t i = 0; i < kColumns; ++i)
      for (std::int64_t j = 0; j < kColumns; j += 13) {
        double product = 0;  // (U^T U H)_ij
        for (std::int64_t k = 0; k <= i; ++k) {
          double right = 0;
          for (std::int64_t l = k; l < kColumns; ++l)
            right += static_cast<double>(f.upper.row(k)[l]) * h(l, j);
          product += static_cast<double>(f.upper.row(k)[i]) * right;
        }
        EXPECT_NEAR(product, i == j ? 1.0 : 0.0, 1e-3) << i << " " << j;
      }
  }
}

TEST_F(Gptq, OutputsAreCloserThanRoundToNearest) {
  for (const Granularity g :
       {Granularity::kPerTensor, Granularity::kPerChannel, Granularity::kPerGroup})
    for (const bool symmetric : {true, false}) {
      const QuantSpec spec{4, symmetric, g, g == Granularity::kPerGroup ? 50 : 0};
      const GptqFactor f = make_gptq_factor(gram, 0.01, g != Granularity::kPerGroup, ctx);
      const QTensor q = gptq_round(w, quantize_weight(w, spec), f, ctx);
      for (const std::int16_t code : q.codes.as<std::int16_t>()) {
        EXPECT_GE(code, spec.min_code());
        EXPECT_LE(code, spec.max_code());
      }
      EXPECT_LT(output_error(q), 0.6 * output_error(quantize_weight(w, spec)))
          << granularity_name(g) << " " << symmetric;
    }
}

TEST_F(Gptq, SameCodesForAnyNumberOfThreads) {
  ExecContext one(1), three(3);
  const QuantSpec spec{4, true, Granularity::kPerChannel};
  const QTensor a = gptq_round(w, quantize_weight(w, spec), make_gptq_factor(gram, 0.01, true, one),
                               one),
                b = gptq_round(w, quantize_weight(w, spec),
                               make_gptq_factor(gram, 0.01, true, three), three);
  EXPECT_TRUE(std::equal(a.codes.as<std::int16_t>().begin(), a.codes.as<std::int16_t>().end(),
                         b.codes.as<std::int16_t>().begin()));
}

TEST_F(Gptq, DescentEndsWhereNoCodeMovesAlone) {
  constexpr double kDamping = 0.05;
  for (const Granularity granularity :
       {Granularity::kPerTensor, Granularity::kPerChannel, Granularity::kPerGroup})
    for (const bool symmetric : {true, false}) {
      const QuantSpec spec{3, symmetric, granularity,
                           granularity == Granularity::kPerGroup ? 50 : 0};
      const QTensor start = quantize_weight(w, spec),
                    end = descend_codes(w, start.clone(), gram, kDamping, 1000, ctx);
      EXPECT_LT(output_error(end), 0.75 * output_error(start)) << granularity_name(granularity);
      for (std::int64_t r = 0; r < kRows; r += 6) {
        const double reached = row_error(end, r, kDamping);
        EXPECT_LE(reached, row_error(start, r, kDamping))
            << granularity_name(granularity) << " row " << r;
        for (std::int64_t k = 0; k < kColumns; k += 7)
          for (const int by : {-1, 1}) {
            QTensor moved = end.clone();
            std::int16_t& code =
                moved.codes.as<std::int16_t>()[static_cast<std::size_t>(r * kColumns + k)];
            code = static_cast<std::int16_t>(code + by);
            if (code < spec.min_code() || code > spec.max_code()) continue;
            EXPECT_GE(row_error(moved, r, kDamping), reached * (1 - 1e-4))
                << "row " << r << " column " << k << " by " << by;
          }
      }
    }
}

TEST_F(Gptq, DescentGoesOnWhereRoundingColumnByColumnEnds) {
  const QuantSpec spec{4, true, Granularity::kPerChannel};
  ExecContext one(1), three(3);
  const QTensor greedy =
      gptq_round(w, quantize_weight(w, spec), make_gptq_factor(gram, 0.01, true, ctx), ctx);
  const QTensor a = descend_codes(w, greedy.clone(), gram, 0.01, 20, one),
                b = descend_codes(w, greedy.clone(), gram, 0.01, 20, three);
  EXPECT_TRUE(std::equal(a.codes.as<std::int16_t>().begin(), a.codes.as<std::int16_t>().end(),
                         b.codes.as<std::int16_t>().begin()));
  for (std::int64_t r = 0; r < kRows; ++r)
    EXPECT_LE(row_error(a, r, 0.01), row_error(greedy, r, 0.01) * (1 + 1e-6)) << r;
  EXPECT_LT(output_error(a), 0.99 * output_error(greedy));
}

TEST_F(Gptq, DeadInputsAreAnError) {
  EXPECT_THROW(make_gptq_factor(Tensor::f32({4, 4}), 0.01, true, ctx), Error);
  gram.row(3)[3] = std::nanf("");
  EXPECT_THROW(make_gptq_factor(gram, 0.01, true, ctx), Error);
}

}  // namespace
}  // namespace quell
