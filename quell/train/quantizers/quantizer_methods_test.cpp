// Methods without golden data against plain loops; searches against what they search for.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/train/clip_search.h"
#include "quell/train/fake_quantizer.h"
#include "quell/train/product_quantization.h"
#include "quell/train/quantizers/test_weights.h"

namespace quell::train {
namespace {

TEST(TrainingQuantizerMethods, AbsmeanIsThePapersFormula) {
  for (const bool row : {false, true}) {
    const torch::Tensor w = normal_weights({5, 9}, 13);
    const torch::Tensor got =
        make_quantizer("absmean", {{"granularity", row ? "row" : "tensor"}})->quantize(w);
    const auto* x = w.data_ptr<double>();
    for (int i = 0; i < 45; ++i) {
      const int first = row ? i / 9 * 9 : 0;
      const int count = row ? 9 : 45;
      double scale = 0;
      for (int j = first; j < first + count; ++j) scale += std::abs(x[j]) / count;
      double want = 0;
      if (x[i] > scale / 2) want = scale;
      if (x[i] < -scale / 2) want = -scale;
      EXPECT_NEAR(got.data_ptr<double>()[i], want, 1e-14);
    }
  }
}

/// The best of all 3^n codes, each with its best scale.
double least_ternary_error(const std::vector<double>& w, const std::vector<double>& d) {
  double least = HUGE_VAL;
  int total = 1;
  for (std::size_t i = 0; i < w.size(); ++i) total *= 3;
  for (int index = 0; index < total; ++index) {
    double dot = 0;
    double norm = 0;
    double energy = 0;
    for (std::size_t i = 0, rest = static_cast<std::size_t>(index); i < w.size(); ++i, rest /= 3) {
      const double q = static_cast<double>(rest % 3) - 1;
      dot += d[i] * q * w[i];
      norm += d[i] * q * q;
      energy += d[i] * w[i] * w[i];
    }
    least = std::min(least, norm > 0 ? energy - dot * dot / norm : energy);
  }
  return least;
}

TEST(TrainingQuantizerMethods, LatFindsTheBestTernaryWeights) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    const torch::Tensor w = normal_weights({1, 9}, seed);
    const torch::Tensor moment = normal_weights({1, 9}, seed + 100).square();
    const std::vector<double> values(w.data_ptr<double>(), w.data_ptr<double>() + 9);
    std::vector<double> d;
    for (int i = 0; i < 9; ++i) d.push_back(std::sqrt(moment.data_ptr<double>()[i]));
    const auto error_of = [&](const char* solution) {
      const auto lat = make_quantizer("lat", {{"solution", solution}});
      lat->begin_step({.second_moment = moment});
      return (moment.sqrt() * (lat->quantize(w) - w).square()).sum().item<double>();
    };
    const double least = least_ternary_error(values, d);
    EXPECT_NEAR(error_of("exact"), least, 1e-9);
    EXPECT_GE(error_of("alternating"), least - 1e-9);
    EXPECT_LE(error_of("alternating"), 1.5 * least);

    // LAQ has the same alternation for any number of bits.
    const auto laq = make_quantizer("laq", {{"metric", "second_moment"}});
    laq->begin_step({.second_moment = moment});
    const auto lat = make_quantizer("lat", {});
    lat->begin_step({.second_moment = moment});
    EXPECT_TRUE(torch::equal(laq->quantize(w), lat->quantize(w)));

    // Without a metric it is another problem.
    const auto plain = make_quantizer("lat", {{"solution", "exact"}});
    EXPECT_NEAR((plain->quantize(w) - w).square().sum().item<double>(),
                least_ternary_error(values, std::vector<double>(9, 1)), 1e-9);
  }
}

TEST(TrainingQuantizerMethods, SeqHasThePapersLevels) {
  for (const auto& [bits, half, shift] :
       {std::tuple{"1.58", 1.5, 0.0}, std::tuple{"2", 2.0, 0.5}, std::tuple{"3", 4.0, 0.5}}) {
    const torch::Tensor w = normal_weights({6, 40}, 17);
    const auto seq = make_quantizer("seq", {{"bits", bits}});
    seq->initialize(w);
    const torch::Tensor got = seq->quantize(w);
    for (int r = 0; r < 6; ++r) {
      const auto alpha = w[r].abs().max().item<double>();
      EXPECT_EQ(seq->parameters()[0].value[r][0].item<double>(), alpha);
      for (int c = 0; c < 40; ++c) {
        const auto u = std::clamp(w[r][c].item<double>() / alpha, -0.99, 0.99);
        const double level = (std::nearbyint(u * half - shift) + shift) / half;
        EXPECT_NEAR(got[r][c].item<double>(), level * alpha, 1e-14);
      }
    }
  }
}

/// 42.5 % of normal weights lie beyond the mean magnitude; the best clip is farther out the more
/// bits there are.
TEST(TrainingQuantizerMethods, LeastErrorStartsOfNormalWeights) {
  const torch::Tensor w = normal_weights({200, 1000}, 19);
  for (const auto& [bits, gamma] :
       {std::pair{2, 1.54}, std::pair{3, 2.44}, std::pair{4, 3.10}, std::pair{8, 4.92}}) {
    const auto error_with = [&, b = bits](const char* start) {
      const auto q = make_quantizer("dynscale", {{"bits", std::to_string(b)}, {"start", start}});
      q->initialize(w);
      const double error = (q->quantize(w) - w).square().mean().item<double>();
      return std::pair{q->parameters()[0].value.item<double>(), error};
    };
    const auto [found, error] = error_with("least_error");
    EXPECT_NEAR(found, gamma, 0.03 * gamma) << bits;
    EXPECT_LT(error, error_with("1").second);
    for (const double near : {0.9, 1.1})
      EXPECT_LT(error, error_with(std::to_string(near * found).c_str()).second) << bits;
  }
}

TEST(TrainingQuantizerMethods, ProductQuantization) {
  // Two pairs of neighbours, from either one of each.
  const torch::Tensor w =
      torch::tensor({{0.0, 0.0, 10.0, 10.0}, {0.0, 1.0, 10.0, 11.0}}, torch::kFloat64);
  ProductSettings settings;
  settings.block_size = 2;
  settings.centroids = 2;
  ProductChance chance;
  chance.start = torch::tensor({0, 2}, torch::kInt64);
  const ProductCode code = fit_product(w, settings, chance);
  EXPECT_TRUE(
      torch::equal(code.centroids, torch::tensor({{0.0, 0.5}, {10.0, 10.5}}, torch::kFloat64)));
  EXPECT_DOUBLE_EQ(code.objective.back(), 1.0);

  // Random starts, clusters split where they are empty: repeatable, and never worse.
  const torch::Tensor big = normal_weights({32, 32}, 29);
  settings = {.block_size = 4, .centroids = 40};
  const ProductCode a = fit_product(big, settings, chance_from(3, big, settings));
  const ProductCode b = fit_product(big, settings, chance_from(3, big, settings));
  EXPECT_TRUE(torch::equal(a.centroids, b.centroids));
  EXPECT_EQ(a.objective.size(), 15U);
  for (std::size_t i = 1; i < a.objective.size(); ++i)
    EXPECT_LE(a.objective[i], a.objective[i - 1] + 1e-9);
  EXPECT_EQ(std::get<0>(at::_unique(a.assignments)).numel(), 40);
  settings.centroids = 257;
  EXPECT_THROW(fit_product(big, settings, chance_from(3, big, settings)), Error);
  settings = {.block_size = 5, .centroids = 4};
  EXPECT_THROW(fit_product(big, settings, chance_from(3, big, settings)), Error);
}

TEST(TrainingQuantizerMethods, ClippingSearchLowersTheErrorOfTheOutputs) {
  const torch::Tensor w = normal_weights({6, 32}, 31);
  const torch::Tensor x = normal_weights({50, 32}, 37);
  const auto quantizer = make_quantizer("int_asym", {{"group_size", "16"}, {"bits", "2"}});
  const auto quantize = [&](const torch::Tensor& groups) { return quantizer->quantize(groups); };
  const Clips clips = search_clips(w, x, {.group_size = 16, .sample_tokens = 50}, quantize);
  const auto error_of = [&](const torch::Tensor& clamped) {
    const torch::Tensor difference = (quantizer->quantize(clamped) - w).reshape({6, 2, 16});
    const torch::Tensor inputs = x.reshape({50, 2, 16});
    return torch::einsum("tgc,rgc->trg", {inputs, difference}).square().mean(0);
  };
  const torch::Tensor found = error_of(clamp_to(w, clips));
  EXPECT_TRUE(torch::allclose(found, clips.error));
  EXPECT_TRUE((found <= error_of(w) + 1e-12).all().item<bool>());
  EXPECT_LT(found.sum().item<double>(), 0.9 * error_of(w).sum().item<double>());
  EXPECT_THROW(search_clips(w, x, {.group_size = 5}, quantize), Error);
  EXPECT_THROW(search_clips(w, x.slice(1, 0, 16), {.group_size = 16}, quantize), Error);
}

}  // namespace
}  // namespace quell::train
