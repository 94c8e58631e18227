// Numbers that say how good predictions are. Shares and correlations are returned as 0..100;
// docs/evaluation.md has the formulas.
#pragma once

#include <cstdint>
#include <span>

namespace quell {

double pearson(std::span<const double> a, std::span<const double> b);
/// Pearson correlation of the ranks; equal values share their mean rank.
double spearman(std::span<const double> a, std::span<const double> b);
double accuracy(std::span<const int> predicted, std::span<const int> expected);
/// F1 of class 1.
double f1(std::span<const int> predicted, std::span<const int> expected);
/// Matthews correlation of two classes or more (Gorodkin 2004).
double matthews(std::span<const int> predicted, std::span<const int> expected);
double cosine(std::span<const float> a, std::span<const float> b);  ///< -1..1

/// KL(softmax(reference) || softmax(logits)) in nats, in double.
double kl_divergence(std::span<const float> reference, std::span<const float> logits);
int argmax(std::span<const float> values);

}  // namespace quell
