// Losses: what the recorded runs do not show.
#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/error.h"
#include "quell/train/losses/diagnostics.h"
#include "quell/train/losses/hidden_states.h"
#include "quell/train/losses/logits.h"
#include "quell/train/losses/sample_contrastive.h"
#include "quell/train/losses/token_scaled.h"

namespace quell::train {
namespace {

torch::Tensor random(at::IntArrayRef shape) { return torch::randn(shape, torch::kFloat64); }

/// Autograd's gradient against central differences.
void expect_gradient(const torch::Tensor& at,
                     const std::function<torch::Tensor(const torch::Tensor&)>& loss) {
  const torch::Tensor x = at.clone().requires_grad_(true);
  loss(x).backward();
  constexpr double kStep = 1e-5;
  for (std::int64_t i = 0; i < at.numel(); ++i) {
    const torch::Tensor up = at.clone(), down = at.clone();
    up.view(-1)[i] += kStep;
    down.view(-1)[i] -= kStep;
    const double slope = (loss(up) - loss(down)).item<double>() / (2 * kStep);
    EXPECT_NEAR(x.grad().view(-1)[i].item<double>(), slope, 1e-6) << i;
  }
}

TEST(Losses, GradientsAreThoseOfFiniteDifferences) {
  torch::manual_seed(1);
  const torch::Tensor student = random({2, 3, 5}), teacher = random({2, 3, 5});
  expect_gradient(student, [&](const auto& s) { return kl_at_temperature(s, teacher, 3); });
  expect_gradient(student, [&](const auto& s) { return top_k_soft_cross_entropy(s, teacher, 3); });
  expect_gradient(student, [&](const auto& s) { return reverse_kls(s, teacher).mean(); });
}

TEST(Losses, AllLogitsAreTheTopOnes) {
  torch::manual_seed(2);
  const torch::Tensor student = random({4, 6}), teacher = random({4, 6});
  EXPECT_NEAR(top_k_soft_cross_entropy(student, teacher, 6).item<double>(),
              soft_cross_entropy(student, teacher).item<double>(), 1e-12);
  EXPECT_THROW(top_k_soft_cross_entropy(student, teacher, 7), Error);
  EXPECT_THROW(top_k_soft_cross_entropy(student, teacher, 0), Error);
}

TEST(Losses, AtTemperatureOneKlIsCrossEntropyLessTheTeachersEntropy) {
  torch::manual_seed(3);
  const torch::Tensor student = random({4, 6}), teacher = random({4, 6});
  EXPECT_NEAR(
      kl_at_temperature(student, teacher, 1).item<double>(),
      (soft_cross_entropy(student, teacher) - soft_cross_entropy(teacher, teacher)).item<double>(),
      1e-12);
}

TEST(Losses, AtHighTemperatureTokensCountAlike) {
  torch::manual_seed(4);
  const torch::Tensor student = random({2, 5, 7}), teacher = random({2, 5, 7});
  const torch::Tensor labels = torch::randint(7, {2, 5}, torch::kInt64);
  // Weights of a sequence sum to 1, and the batch is summed.
  EXPECT_NEAR(token_scaled_soft_cross_entropy(student, teacher, labels, 1e9).item<double>(),
              2 * next_token_soft_cross_entropy(student, teacher).item<double>(), 1e-8);
}

TEST(Losses, ConfidenceIsTheProbabilityOfLabels) {
  TeacherConfidence confidence;
  const torch::Tensor logits =
      torch::tensor({0.0, std::log(3.0)}).view({1, 1, 2}).repeat({1, 3, 1});
  confidence.add(logits,
                 torch::tensor({std::int64_t{0}, std::int64_t{1}, kIgnoredLabel}).view({1, 3}));
  EXPECT_NEAR(confidence.of_labels(), (0.25 + 0.75) / 2, 1e-12);
  EXPECT_THROW(confidence.as_reference(), Error) << "of one batch it would divide by 0";
  EXPECT_THROW(TeacherConfidence().of_labels(), Error);
}

TEST(Losses, LabelsThatAllAreIgnoredAreAnError) {
  const torch::Tensor logits = torch::zeros({1, 3, 4});
  EXPECT_THROW(next_token_cross_entropy(logits, torch::full({1, 3}, kIgnoredLabel, torch::kInt64)),
               Error);
}

TEST(Losses, LayersThatDoNotFitAreAnError) {
  const torch::Tensor a = torch::zeros({2, 3}), b = torch::zeros({2, 4});
  EXPECT_THROW(layer_mse({a, a}, {a}), Error);
  EXPECT_THROW(layer_mse({a}, {b}), Error);
  EXPECT_THROW(layer_mse({}, {}), Error);
}

TEST(Losses, OneSentenceHasNoNegatives) {
  torch::manual_seed(5);
  for (const bool reweighted : {false, true}) {
    SampleContrastiveOptions options;
    if (reweighted) options.reweighting_temperature = 0.5;
    const torch::Tensor one = random({1, 4}), map = random({3, 4});
    EXPECT_NEAR(sample_contrastive(one, one, map, map, options).loss.item<double>(), 0, 1e-12);
  }
}

TEST(Losses, WeightsOfNegativesHaveMeanOne) {
  torch::manual_seed(6);
  SampleContrastiveOptions options;
  options.reweighting_temperature = 0.3;
  const SampleContrastive result =
      sample_contrastive(random({5, 4}), random({5, 6}), random({3, 4}), random({3, 6}), options);
  EXPECT_TRUE(torch::allclose(result.weights.sum(-1), torch::full({5}, 1 + 4.0, torch::kFloat64)));
  EXPECT_TRUE(torch::equal(result.weights.diagonal(), torch::ones({5}, torch::kFloat64)));
}

TEST(Diagnostics, CosinesAndEntropyTellAlikeRowsFromDifferentOnes) {
  const torch::Tensor eye = torch::eye(4, torch::kFloat64);
  EXPECT_NEAR(pairwise_cosine(eye), 0, 1e-12);
  EXPECT_NEAR(singular_value_entropy(eye), 1, 1e-12);
  const torch::Tensor alike = torch::ones({4, 4}, torch::kFloat64);
  EXPECT_NEAR(pairwise_cosine(alike), 1, 1e-12);
  EXPECT_NEAR(singular_value_entropy(alike), 0, 1e-6);
  // A row of zeros has no direction.
  EXPECT_NEAR(pairwise_cosine(torch::cat({alike, torch::zeros({1, 4}, torch::kFloat64)})), 1,
              1e-12);
  EXPECT_THROW(pairwise_cosine(torch::zeros({3, 4})), Error);
}

TEST(Diagnostics, AMapRankedLikeTheTeachersLosesNothing) {
  torch::manual_seed(7);
  const torch::Tensor map = torch::softmax(random({2, 6, 6}), -1);
  EXPECT_EQ(ranking_loss(map, map).abs().max().item<double>(), 0);
  // Five tokens at ranks 0 to 4 of 6, over 5 of 6 rows.
  EXPECT_NEAR(cover_length_ratio(map, map)[0].item<double>(), 4.0 / 6 * 5 / 6, 1e-12);
  EXPECT_GT(ranking_loss(-map, map).min().item<double>(), 0);
}

}  // namespace
}  // namespace quell::train
