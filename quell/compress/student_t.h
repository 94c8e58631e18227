// Student's paired t-test: whether differences drawn at random have a mean above 0.
#pragma once

#include <cstdint>

namespace quell {

/// P(T > t) of Student's t with `freedom` >= 1 degrees of freedom (Abramowitz and Stegun, 26.7.3
/// and 26.7.4).
double student_t_tail(double t, std::int64_t freedom);

class PairedTest {
 public:
  void add(double difference);
  /// One-sided, p < 1e-4; `population`: how many differences there are to draw from, without
  /// putting back. Never with less than three.
  bool is_positive(double population) const;

 private:
  double count_ = 0, mean_ = 0, squares_ = 0;  ///< squares: of deviations from the mean
};

}  // namespace quell
