#include "quell/train/losses/diagnostics.h"

#include <cmath>

#include "quell/base/error.h"

namespace quell::train {

torch::Tensor ranking_loss(const torch::Tensor& student, const torch::Tensor& teacher) {
  const torch::NoGradGuard guard;
  const std::int64_t n = student.size(-1);
  // Differences [.., row, i, j] of the columns that the notebook compares.
  const auto differences = [&](const torch::Tensor& map) {
    return map.narrow(-1, 0, n - 1).unsqueeze(-1) - map.narrow(-1, 1, n - 1).unsqueeze(-2);
  };
  const torch::Tensor wrong = -differences(student) * differences(teacher).sign();
  return wrong.clamp_min(0).sum({-3, -2, -1});
}

torch::Tensor cover_length_ratio(const torch::Tensor& student, const torch::Tensor& teacher,
                                 std::int64_t top) {
  const torch::NoGradGuard guard;
  const std::int64_t n = student.size(-1);
  require(n > 1 && top >= 1 && top <= n, ErrorCode::kInvalidInput, "cover length: the ", top,
          " largest of ", n, " tokens");
  // Position of each column in the student's descending order: the inverse of that order.
  const torch::Tensor rank = student.argsort(std::int64_t{-1}, true).argsort(std::int64_t{-1});
  const torch::Tensor largest = std::get<1>(teacher.topk(top, -1));
  const torch::Tensor last = std::get<0>(rank.gather(-1, largest).max(-1));  // [.., row]
  const torch::Tensor ratio = last.to(torch::kFloat64) / static_cast<double>(n);
  return ratio.narrow(-1, 0, n - 1).sum(-1) / static_cast<double>(n);
}

double pairwise_cosine(const torch::Tensor& rows) {
  const torch::NoGradGuard guard;
  const torch::Tensor x = rows.to(torch::kFloat64);
  const torch::Tensor size = x.norm(2, -1);
  const torch::Tensor is_there = size.gt(0);
  const torch::Tensor units = x.index({is_there}) / size.index({is_there}).unsqueeze(-1);
  const auto n = static_cast<double>(units.size(0));
  require(n > 1, ErrorCode::kInvalidInput, "pairwise cosine: fewer than two rows that are not 0");

  // |sum of units|^2 = n + sum over pairs i != j of their cosines.
  const double square = units.sum(0).square().sum().item<double>();
  return (square - n) / (n * (n - 1));
}

double singular_value_entropy(const torch::Tensor& rows) {
  const torch::NoGradGuard guard;
  const torch::Tensor x = rows.to(torch::kFloat64);
  const torch::Tensor values = std::get<1>(torch::linalg_svd(x, false));
  const torch::Tensor share = values / values.sum();
  const torch::Tensor terms = torch::xlogy(share, share);  // 0 log 0 = 0
  const auto count = static_cast<double>(values.size(0));
  return count > 1 ? -terms.sum().item<double>() / std::log(count) : 0;
}

}  // namespace quell::train
