#include "quell/eval/metrics.h"
#include "quell/ops/likelihood.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace quell {
namespace {

std::vector<double> ranks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return values[i] < values[j]; });
  std::vector<double> out(values.size());
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double mean = (static_cast<double>(begin) + static_cast<double>(end) - 1) / 2;
    for (std::size_t i = begin; i < end; ++i) out[order[i]] = mean;
    begin = end;
  }
  return out;
}

}  // namespace

double pearson(std::span<const double> a, std::span<const double> b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n,
               mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return aa > 0 && bb > 0 ? 100 * ab / std::sqrt(aa * bb) : 0;
}

double spearman(std::span<const double> a, std::span<const double> b) {
  return pearson(ranks(a), ranks(b));
}

double accuracy(std::span<const int> predicted, std::span<const int> expected) {
  double right = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) right += predicted[i] == expected[i] ? 1 : 0;
  return predicted.empty() ? 0 : 100 * right / static_cast<double>(predicted.size());
}

double f1(std::span<const int> predicted, std::span<const int> expected) {
  double both = 0, either = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    both += predicted[i] == 1 && expected[i] == 1 ? 1 : 0;
    either += (predicted[i] == 1 ? 1 : 0) + (expected[i] == 1 ? 1 : 0);
  }
  return either > 0 ? 200 * both / either : 0;
}

double matthews(std::span<const int> predicted, std::span<const int> expected) {
  int classes = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i)
    classes = std::max({classes, predicted[i] + 1, expected[i] + 1});
  std::vector<double> p(static_cast<std::size_t>(classes)), t(p.size());
  double right = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    ++p[static_cast<std::size_t>(predicted[i])];
    ++t[static_cast<std::size_t>(expected[i])];
    right += predicted[i] == expected[i] ? 1 : 0;
  }
  const auto n = static_cast<double>(predicted.size());
  double pt = 0, pp = 0, tt = 0;
  for (std::size_t k = 0; k < p.size(); ++k) {
    pt += p[k] * t[k];
    pp += p[k] * p[k];
    tt += t[k] * t[k];
  }
  const double divisor = std::sqrt((n * n - pp) * (n * n - tt));
  return divisor > 0 ? 100 * (right * n - pt) / divisor : 0;
}

double cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    aa += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    bb += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

double kl_divergence(std::span<const float> reference, std::span<const float> logits) {
  const double za = log_sum_exp(reference), zb = log_sum_exp(logits);
  double kl = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - za;
    kl += std::exp(log_p) * (log_p - (static_cast<double>(logits[i]) - zb));
  }
  return std::max(kl, 0.0);
}

int argmax(std::span<const float> values) {
  return static_cast<int>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace quell
