#include "quell/compress/student_t.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace quell {

double student_t_tail(double t, std::int64_t freedom) {
  constexpr std::int64_t kNormal =
      1000;  // from there on the normal distribution: 3 % off where t is 3
  if (freedom > kNormal) return std::erfc(t / std::numbers::sqrt2) / 2;
  const double angle = std::atan(t / std::sqrt(static_cast<double>(freedom))),
               cosine = std::cos(angle);
  const bool odd = freedom % 2 == 1;
  double term = odd ? cosine : 1, sum = freedom == 1 ? 0 : term;
  for (std::int64_t k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= cosine * cosine * static_cast<double>(k - 1) / static_cast<double>(k);
    sum += term;
  }
  const double inside =
      odd ? (angle + std::sin(angle) * sum) * 2 / std::numbers::pi : std::sin(angle) * sum;
  return (1 - inside) / 2;
}

void PairedTest::add(double difference) {
  ++count_;
  const double before = difference - mean_;
  mean_ += before / count_;
  squares_ += before * (difference - mean_);
}

bool PairedTest::is_positive(double population) const {
  constexpr double kLevel = 1e-4;
  if (count_ < 3 || !(mean_ > 0)) return false;
  const double variance =
      squares_ / (count_ - 1) / count_ * std::max(0.0, 1 - count_ / population);  // of the mean
  return !(variance > 0) || student_t_tail(mean_ / std::sqrt(variance),
                                           static_cast<std::int64_t>(count_) - 1) < kLevel;
}

}  // namespace quell
