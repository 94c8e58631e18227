// A minimum of a function of one variable between two bounds.
#pragma once

#include <functional>

namespace quell {

/// Brent's method, golden section and parabolas in turn, without derivatives (Forsythe, Malcolm and
/// Moler, Computer Methods for Mathematical Computations, 1977, section 8.2: `fmin`). Stops within
/// `tolerance` of a local minimum, or after `evaluations`.
double minimize_bounded(const std::function<double(double)>& f, double low, double high,
                        double tolerance = 1e-5, int evaluations = 500);

}  // namespace quell
