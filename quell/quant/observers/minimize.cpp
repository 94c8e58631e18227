#include "quell/quant/observers/minimize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace quell {

double minimize_bounded(const std::function<double(double)>& f, double low, double high,
                        double tolerance, int evaluations) {
  struct Point {
    double x, f;
  };
  const double golden = 0.5 * (3.0 - std::sqrt(5.0)),
               relative = std::sqrt(std::numeric_limits<double>::epsilon());
  const double first = low + golden * (high - low);
  Point best{first, f(first)}, second = best, third = best;
  double step = 0, before = 0;  // the last step, and the one before it
  for (int n = 1; n < evaluations; ++n) {
    const double middle = 0.5 * (low + high),
                 small = relative * std::fabs(best.x) + tolerance / 3.0;
    if (std::fabs(best.x - middle) <= 2 * small - 0.5 * (high - low)) break;
    bool parabola = std::fabs(before) > small;
    if (parabola) {
      // The vertex of the parabola through the three points, if it lies inside and the steps are
      // shrinking.
      const double a = (best.x - second.x) * (best.f - third.f),
                   b = (best.x - third.x) * (best.f - second.f);
      double p = (best.x - third.x) * b - (best.x - second.x) * a, q = 2 * (b - a);
      if (q > 0) p = -p;
      q = std::fabs(q);
      parabola = std::fabs(p) < std::fabs(0.5 * q * before) && p > q * (low - best.x) &&
                 p < q * (high - best.x);
      before = step;
      if (parabola) {
        step = p / q;
        const double x = best.x + step;
        if (x - low < 2 * small || high - x < 2 * small) step = middle >= best.x ? small : -small;
      }
    }
    if (!parabola) {
      before = best.x >= middle ? low - best.x : high - best.x;
      step = golden * before;
    }
    const double at_least = std::max(std::fabs(step), small),
                 x = best.x + (step >= 0 ? at_least : -at_least);
    const Point next{x, f(x)};
    if (next.f <= best.f) {
      (next.x >= best.x ? low : high) = best.x;
      third = std::exchange(second, std::exchange(best, next));
    } else {
      (next.x < best.x ? low : high) = next.x;
      if (next.f <= second.f || second.x == best.x)
        third = std::exchange(second, next);
      else if (next.f <= third.f || third.x == best.x || third.x == second.x)
        third = next;
    }
  }
  return best.x;
}

}  // namespace quell
