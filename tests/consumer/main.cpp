// A program outside the source tree: quantizes a vector with an installed Quell.
#include <cstdio>
#include <vector>

#include <quell/quant/quantize.h>

int main() {
  const quell::QuantSpec spec{4, false};
  const std::vector<float> x = {-1.0F, 0.0F, 3.0F};
  const quell::StepAndZero qp = quell::calculate_qparams(quell::range_of(x, "x"), spec);
  std::printf("step %.6f zero point %d\n", static_cast<double>(qp.scale), qp.zero_point);
  return qp.zero_point == 4 ? 0 : 1;
}
