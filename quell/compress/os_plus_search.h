// The threshold search of Outlier Suppression+ (Wei et al., EMNLP 2023, section 4; docs/numerics.md): which outlier threshold t
// makes the quantized site reproduce its float output best.
//   s_j(t) = max(1, max_j / t, min_j / -t);   L(t) = mean over tokens of sum over outputs of (f(Q(X/s), Q(W s)) - f(X, W))^2
// t runs from the largest magnitude down to `floor` in num = max(100, int(max / 0.5)) steps; the largest t wins ties.
#pragma once

#include <vector>

#include "quell/compress/site.h"

namespace quell {

/// One site as the search sees it. Element-wise operations are f32 with true division, as in the reference; sums of the loss are
/// double.
struct OsPlusProblem {
  SiteKind kind = SiteKind::kMlp;
  std::vector<Tensor> x;                             ///< a batch each, [B*N, C], already shifted
  std::vector<const TokenBatch*> batches;            ///< shapes and masks
  Tensor weight;                                     ///< [O, C]: q, k, v or gate, up stacked in this order
  Tensor bias;                                       ///< [O] with W * shift inside; undefined: none
  std::vector<std::int64_t> rows;                    ///< how `weight` splits: {q, k, v}, {gate, up} or {O}
  AttentionSpec attention;                           ///< kAttention
  std::vector<std::vector<std::int32_t>> positions;  ///< kAttention with rotary embedding or ALiBi: a batch each
  std::vector<const Tensor*> position_bias;          ///< kAttention of T5: a batch each, else empty
  const Param *q_norm = nullptr, *k_norm = nullptr;  ///< kAttention: norms over the heads of q and k, where there are any
  double norm_eps = 0;
  ActivationKind activation = ActivationKind::kSilu;  ///< kGatedMlp
  QuantSpec weights, activations;
  double floor = 1.0;
  bool include_padding = false;  ///< channel extrema over padding too, as the reference
};

struct OsPlusResult {
  std::vector<double> thresholds, losses;  ///< every candidate in the order tried
  int best = -1;                           ///< -1: no candidate (all magnitudes below the floor), scale 1
  Tensor scale;                            ///< [C]
};

OsPlusResult search_threshold(const OsPlusProblem& problem, ExecContext& ctx);

}  // namespace quell
