// One site as searches see it: what its linears read, their weights stacked, and what follows them.
#pragma once

#include <vector>

#include "quell/compress/site.h"

namespace quell {

struct SiteProblem {
  SiteKind kind = SiteKind::kMlp;
  std::vector<const Tensor*> x;  ///< a batch each, [B*N, C]; kept by others
  Tensor shift;                  ///< [C], to be taken from every row of x; undefined: none
  std::vector<const TokenBatch*> batches;  ///< shapes and masks
  SharedHeads shared;                      ///< channels that change alike
  Tensor weight;                           ///< [O, C]: q, k, v or gate, up stacked in this order
  Tensor bias;                             ///< [O] with W * shift inside; undefined: none
  std::vector<std::int64_t> rows;          ///< how `weight` splits: {q, k, v}, {gate, up} or {O}
  AttentionSpec attention;                 ///< kAttention
  std::vector<std::vector<std::int32_t>>
      positions;  ///< kAttention with rotary embedding or ALiBi: a batch each
  std::vector<const Tensor*> position_bias;  ///< kAttention of T5: a batch each, else empty
  const Param *q_norm = nullptr,
              *k_norm =
                  nullptr;   ///< kAttention: norms over the heads of q and k, where there are any
  NormAttributes head_norm;  ///< of both
  ActivationKind activation = ActivationKind::kSilu;  ///< kGatedMlp
  QuantSpec weights, activations;
  std::shared_ptr<ScratchFile>
      scratch;  ///< where `x` and what is made of it lie while nobody reads them; null: in memory
};

/// How the rows of q, k and v are stacked. The reference splits BLOOM's fused rows, which are
/// [heads][q, k, v][dim], as if they were [q, k, v][heads][dim]: then its objective is the
/// attention of rows that do not belong together.
enum class StackOrder { kSplit, kByHead };

/// Refers to the activations.
SiteProblem describe_site(const Site& site, const SiteActivations& activations,
                          const QuantSpec& weights, const QuantSpec& activation_spec,
                          StackOrder order = StackOrder::kSplit);

/// x - shift, b + W shift.
void subtract_shift(const Tensor& shift, SiteProblem& problem);

}  // namespace quell
