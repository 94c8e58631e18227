#include "quell/train/clip_search.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"

namespace quell::train {
namespace {

/// [groups, tokens, group_size] of the tokens that count.
torch::Tensor sampled_inputs(const torch::Tensor& x, const ClipSearch& settings) {
  const std::int64_t stride = std::max<std::int64_t>(1, x.size(0) / settings.sample_tokens);
  const torch::Tensor taken = x.slice(0, 0, x.size(0), stride);
  return taken.reshape({taken.size(0), -1, settings.group_size}).permute({1, 0, 2});
}

}  // namespace

Clips search_clips(const torch::Tensor& weight, const torch::Tensor& x, const ClipSearch& settings,
                   const std::function<torch::Tensor(const torch::Tensor& groups)>& quantize) {
  require(weight.dim() == 2 && weight.size(1) % settings.group_size == 0, ErrorCode::kInvalidInput,
          "clip search: groups of ", settings.group_size, " do not divide a row of the weight");
  require(x.dim() == 2 && x.size(0) > 0 && x.size(1) == weight.size(1), ErrorCode::kInvalidInput,
          "clip search: the inputs do not have the columns of the weight");
  const torch::NoGradGuard guard;
  const std::int64_t rows = weight.size(0);
  const torch::Tensor inputs = sampled_inputs(x.to(weight.dtype()), settings);
  const torch::Tensor w = weight.reshape({rows, -1, settings.group_size});
  const torch::Tensor full_high = w.amax(2);
  const torch::Tensor full_low = w.amin(2);

  Clips best{full_high.clone(), full_low.clone(), torch::full_like(full_high, HUGE_VAL),
             torch::full_like(full_high, HUGE_VAL)};
  const int shrinks = static_cast<int>(settings.max_shrink * settings.grid);
  for (int i = 0; i < shrinks; ++i) {
    const torch::Tensor high = full_high * (1 - static_cast<double>(i) / settings.grid);
    for (int j = 0; j < shrinks; ++j) {
      const torch::Tensor low = full_low * (1 - static_cast<double>(j) / settings.grid);
      const torch::Tensor clipped = torch::clamp(w, low.unsqueeze(2), high.unsqueeze(2));
      const torch::Tensor rounded =
          quantize(clipped.reshape({-1, settings.group_size})).reshape_as(w);

      // [groups, tokens, rows]: what each token's output changes by.
      const torch::Tensor changes = inputs.matmul((rounded - w).permute({1, 2, 0}));
      const torch::Tensor error = changes.square().mean(1).transpose(0, 1);
      const torch::Tensor better = error < best.error;
      best.runner_up = torch::where(better, best.error, torch::minimum(best.runner_up, error));
      best.error = torch::where(better, error, best.error);
      best.high = torch::where(better, high, best.high);
      best.low = torch::where(better, low, best.low);
    }
  }
  return best;
}

torch::Tensor clamp_to(const torch::Tensor& weight, const Clips& clips) {
  const torch::NoGradGuard guard;
  const torch::Tensor groups = weight.reshape({clips.high.size(0), clips.high.size(1), -1});
  return torch::clamp(groups, clips.low.unsqueeze(2), clips.high.unsqueeze(2)).reshape_as(weight);
}

}  // namespace quell::train
