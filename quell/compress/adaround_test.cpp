// AdaRound: better than rounding to nearest, as good as the best of all choices where they can be
// counted.
#include "quell/compress/adaround.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

struct Problem {
  Problem(std::int64_t rows, std::int64_t columns)
      : w(Tensor::f32({rows, columns})), gram(Tensor::f32({columns, columns})) {
    Random random(5);
    const auto draw = [&] { return static_cast<float>(random.uniform() * 2 - 1); };
    for (float& v : w.f32()) v = draw();
    std::vector<float> x(static_cast<std::size_t>(columns)), lost(x.size());
    for (int t = 0; t < 300; ++t) {
      const float common = draw() * 3;  // columns depend on each other, as activations do
      for (std::size_t j = 0; j < x.size(); ++j)
        x[j] = draw() + common * static_cast<float>(j % 7) / 7.0F;
      for (std::size_t j = 0; j < x.size(); ++j)
        lost[j] = 0.1F * common + 0.05F * x[(j + 1) % x.size()];
      for (std::size_t i = 0; i < x.size(); ++i)
        for (std::size_t j = 0; j < x.size(); ++j)
          gram.row(static_cast<std::int64_t>(i))[j] += x[i] * x[j];
      seen.push_back(x);
      for (std::size_t j = 0; j < x.size(); ++j) x[j] += lost[j];
      wanted.push_back(x);
    }
  }
  double row_error(const Tensor& got, std::int64_t r) const {
    double sum = 0;
    for (std::int64_t i = 0; i < w.cols(); ++i)
      for (std::int64_t j = 0; j < w.cols(); ++j)
        sum += static_cast<double>(got.row(r)[i] - w.row(r)[i]) *
               static_cast<double>(gram.row(i)[j]) *
               static_cast<double>(got.row(r)[j] - w.row(r)[j]);
    return sum;
  }
  double error(const QTensor& q) const {
    const Tensor got = dequantize(q);
    double sum = 0;
    for (std::int64_t r = 0; r < w.rows(); ++r) sum += row_error(got, r);
    return sum;
  }

  /// |wanted w^T - seen got^T|^2 over all rows and tokens.
  double error_of_outputs(const QTensor& q) const {
    const Tensor got = dequantize(q);
    double sum = 0;
    for (std::size_t t = 0; t < seen.size(); ++t)
      for (std::int64_t r = 0; r < w.rows(); ++r) {
        double lacks = 0;
        for (std::size_t k = 0; k < seen[t].size(); ++k)
          lacks += static_cast<double>(w.row(r)[k]) * static_cast<double>(wanted[t][k]) -
                   static_cast<double>(got.row(r)[k]) * static_cast<double>(seen[t][k]);
        sum += lacks * lacks;
      }
    return sum;
  }
  /// W (wanted - seen)^T seen.
  Tensor pull() const {
    Tensor out = Tensor::f32(w.shape());
    for (std::size_t t = 0; t < seen.size(); ++t)
      for (std::int64_t r = 0; r < w.rows(); ++r) {
        double lacks = 0;
        for (std::size_t k = 0; k < seen[t].size(); ++k)
          lacks +=
              static_cast<double>(w.row(r)[k]) * static_cast<double>(wanted[t][k] - seen[t][k]);
        for (std::size_t k = 0; k < seen[t].size(); ++k)
          out.row(r)[k] += static_cast<float>(lacks) * seen[t][k];
      }
    return out;
  }

  Tensor w, gram;
  std::vector<std::vector<float>> seen,
      wanted;  ///< what the rows multiply, and what was lost of it
  ExecContext ctx{2};
};

TEST(AdaRound, OutputsAreCloserThanRoundToNearestInEveryRow) {
  Problem p(37, 150);
  for (const Granularity g :
       {Granularity::kPerTensor, Granularity::kPerChannel, Granularity::kPerGroup})
    for (const bool symmetric : {true, false}) {
      const QuantSpec spec{4, symmetric, g, g == Granularity::kPerGroup ? 50 : 0};
      const QTensor nearest = quantize_weight(p.w, spec),
                    q = adaround(p.w, quantize_weight(p.w, spec), p.gram, {}, {}, p.ctx);
      for (std::size_t i = 0; i < q.codes.as<std::int16_t>().size(); ++i) {
        EXPECT_GE(q.codes.as<std::int16_t>()[i], spec.min_code());
        EXPECT_LE(q.codes.as<std::int16_t>()[i], spec.max_code());
        EXPECT_LE(std::abs(q.codes.as<std::int16_t>()[i] - nearest.codes.as<std::int16_t>()[i]), 1);
      }
      const Tensor before = dequantize(nearest), after = dequantize(q);
      for (std::int64_t r = 0; r < p.w.rows(); ++r)
        EXPECT_LE(p.row_error(after, r), p.row_error(before, r) * (1 + 1e-4));
      EXPECT_LT(p.error(q), 0.5 * p.error(nearest)) << granularity_name(g) << " " << symmetric;
    }
}

/// All 2^10 choices of a row, of which the best is known.
TEST(AdaRound, ComesCloseToTheBestChoice) {
  constexpr int kColumns = 10;
  Problem p(24, kColumns);
  const QuantSpec spec{4, true, Granularity::kPerChannel};
  const QTensor nearest = quantize_weight(p.w, spec);
  const Tensor learned =
                   dequantize(adaround(p.w, quantize_weight(p.w, spec), p.gram, {}, {}, p.ctx)),
               before = dequantize(nearest);
  double found = 0, best = 0, start = 0;
  for (std::int64_t r = 0; r < p.w.rows(); ++r) {
    double least = INFINITY;
    Tensor choice = p.w.clone();
    const float step = nearest.qparams.scale.f32()[static_cast<std::size_t>(r)];
    for (int bits = 0; bits < 1 << kColumns; ++bits) {
      for (int k = 0; k < kColumns; ++k)
        choice.row(r)[k] =
            std::min(7.0F, std::floor(p.w.row(r)[k] / step) + static_cast<float>(bits >> k & 1)) *
            step;
      least = std::min(least, p.row_error(choice, r));
    }
    best += least;
    found += p.row_error(learned, r);
    start += p.row_error(before, r);
  }
  EXPECT_GE(found, best * (1 - 1e-4));
  EXPECT_LT(found - best, 0.1 * (start - best)) << "best " << best << ", nearest " << start;
}

TEST(AdaRound, MakesUpForWhatInputsHaveLost) {
  Problem p(37, 60);
  const QuantSpec spec{4, true, Granularity::kPerChannel};
  const auto round = [&](const TensorView& pull) {
    return adaround(p.w, quantize_weight(p.w, spec), p.gram, pull, {}, p.ctx);
  };
  const Tensor pull = p.pull();
  const double to_float = p.error_of_outputs(round(pull));
  EXPECT_LT(to_float, 0.7 * p.error_of_outputs(round({})));
  EXPECT_LT(to_float, 0.7 * p.error_of_outputs(quantize_weight(p.w, spec)));
}

TEST(AdaRound, SameCodesForAnyNumberOfThreads) {
  Problem p(37, 150);
  ExecContext one(1), three(3);
  const QuantSpec spec{4, true, Granularity::kPerChannel};
  const AdaRoundOptions options{.iterations = 50};
  const QTensor a = adaround(p.w, quantize_weight(p.w, spec), p.gram, {}, options, one),
                b = adaround(p.w, quantize_weight(p.w, spec), p.gram, {}, options, three);
  EXPECT_TRUE(std::equal(a.codes.as<std::int16_t>().begin(), a.codes.as<std::int16_t>().end(),
                         b.codes.as<std::int16_t>().begin()));
}

TEST(AdaRound, DeadInputsAreAnError) {
  Problem p(3, 4);
  const QuantSpec spec{4, true, Granularity::kPerChannel};
  EXPECT_THROW(adaround(p.w, quantize_weight(p.w, spec), Tensor::f32({4, 4}), {}, {}, p.ctx),
               Error);
}

}  // namespace
}  // namespace quell
