// What fairseq's Quant-Noise really does, for the golden data: noise that overwrites the parameter,
// int4 on an 8-bit grid, ranges by torch's observers. Only tests include it; the product has the
// paper's form.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <limits>

namespace quell::train {

struct ScaleAndZero {
  torch::Tensor scale, zero;  ///< [1]
};

/// 8-bit affine parameters of a range, as torch's observers have them.
inline ScaleAndZero observer_parameters(const torch::Tensor& low, const torch::Tensor& high) {
  constexpr double kLeast = std::numeric_limits<float>::epsilon();
  const torch::Tensor bottom = low.clamp_max(0);
  const torch::Tensor scale = ((high.clamp_min(0) - bottom) / 255.0).clamp_min(kLeast);
  return {scale.reshape({1}), (-torch::round(bottom / scale)).clamp(0, 255).reshape({1})};
}

/// torch.quantization's HistogramObserver after one tensor: of all ranges that a walk from both
/// ends meets, the last before the squared error on 256 bins grows.
class HistogramRange {
 public:
  explicit HistogramRange(const torch::Tensor& x)
      : low_(x.min().item<float>()), high_(x.max().item<float>()) {
    // The edges are whole numbers in this version of torch.
    counts_ = torch::histc(x, kBins, static_cast<int>(low_), static_cast<int>(high_));
    cumulative_ = counts_.cumsum(0);
  }

  ScaleAndZero parameters() const {
    const auto [first, last] = search();
    const float width = (high_ - low_) / static_cast<float>(kBins);
    const torch::Tensor low = torch::tensor(low_ + width * static_cast<float>(first));
    const torch::Tensor high = torch::tensor(low_ + width * static_cast<float>(last + 1));
    return observer_parameters(low, high);
  }

 private:
  static constexpr std::int64_t kBins = 2048;
  static constexpr double kTargets = 256;

  std::pair<std::int64_t, std::int64_t> search() const {
    constexpr double kStep = 1e-5;
    const auto* cumulative = cumulative_.data_ptr<float>();
    const auto total = counts_.sum().item<float>();
    double alpha = 0;
    double beta = 1;
    double least = std::numeric_limits<double>::infinity();
    std::int64_t start = 0;
    std::int64_t end = kBins - 1;
    while (alpha < beta) {
      const double next_alpha = alpha + kStep;
      const double next_beta = beta - kStep;
      std::int64_t l = start;
      std::int64_t r = end;
      while (l < end && cumulative[l] < static_cast<float>(next_alpha * total)) ++l;
      while (r > start && cumulative[r] > static_cast<float>(next_beta * total)) --r;

      std::int64_t next_start = start;
      std::int64_t next_end = end;
      if (l - start > end - r) {
        next_start = l;
        alpha = next_alpha;
      } else {
        next_end = r;
        beta = next_beta;
      }
      if (next_start == start && next_end == end) continue;

      const double error = error_of(next_start, next_end);
      if (error > least) break;
      least = error;
      start = next_start;
      end = next_end;
    }
    return {start, end};
  }

  double error_of(std::int64_t start, std::int64_t end) const {
    const double width = (static_cast<double>(high_) - low_) / static_cast<double>(kBins);
    const double target = width * static_cast<double>(end - start + 1) / kTargets;
    if (target == 0) return 0;
    const torch::Tensor begin = (torch::arange(kBins) - start) * width;
    const torch::Tensor finish = begin + width;
    const auto target_of = [&](const torch::Tensor& x) {
      return torch::div(x, target, "floor").clamp(0, kTargets - 1);
    };
    const torch::Tensor of_begin = target_of(begin);
    const torch::Tensor of_finish = target_of(finish);
    const torch::Tensor density = counts_ / width;
    const auto cubes = [&](const torch::Tensor& from, const torch::Tensor& to) {
      return density * (to * to * to - from * from * from) / 3;
    };

    const torch::Tensor half = torch::full({}, target / 2);
    torch::Tensor error = cubes(begin - (of_begin + 0.5) * target, half);
    error = error + (of_finish - of_begin - 1) * cubes(-half, half);
    error = error + cubes(-half, finish - (of_finish * target + target / 2));
    return error.sum().item<float>();
  }

  float low_, high_;
  torch::Tensor counts_, cumulative_;
};

/// The effective weight of fairseq's IntLinear: an entry outside the codes' range that is noised is
/// neither the weight nor its rounded value. The clamp passes gradients at its bounds.
inline torch::Tensor int_linear_weight(const torch::Tensor& w, const torch::Tensor& mask,
                                       const ScaleAndZero& q, int bits) {
  const double levels = (1 << bits) - 1;
  const auto scale = q.scale.item<double>();
  const auto zero = q.zero.item<double>();
  const torch::Tensor codes = torch::round(w.detach() / q.scale + q.zero).clamp(0, levels);
  const torch::Tensor rounded = (codes - q.zero) * q.scale;
  const torch::Tensor noise = (mask != 0).to(w.dtype()) * (rounded - w.detach());
  return w.clamp(-scale * zero, scale * (levels - zero)) + noise.detach();
}

}  // namespace quell::train
