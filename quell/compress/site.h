// Sites: what reads one value together, with the producer that could absorb a change of it. Derived from the graph.
#pragma once

#include <string>
#include <vector>

#include "quell/model/forward.h"
#include "quell/quant/plan.h"

namespace quell {

/// How the linears of a site work together, which decides the loss a search minimises.
enum class SiteKind { kAttention, kMlp, kGatedMlp, kDown, kPlain };

struct Site {
  SiteKind kind = SiteKind::kPlain;
  std::string name;  ///< "layers.0.q_proj+k_proj+v_proj"
  ValueId value = kNoValue;
  std::vector<int> linears;  ///< nodes, in order
  ProducerKind producer = ProducerKind::kNone;
  int producer_node = -1;
  bool residual = false;         ///< another branch reads the value and must restore it
  bool bias_everywhere = false;  ///< norm and linears have biases, so a shift costs nothing
  std::string refusal;           ///< why no producer can absorb a change, where producer is kNone
  int attention_node = -1;       ///< kAttention: where q, k, v go
  int activation_node = -1;      ///< kGatedMlp: the activation of the gate
  const Model* model = nullptr;
};

/// Which linears beside those of the blocks are quantized.
struct SiteScope {
  bool projections = false;  ///< OPT-350m's project_in and project_out
  bool head = false;         ///< pooler and classifier
};

/// In visiting order: by the first linear of each.
std::vector<Site> derive_sites(const Model& model, const SiteScope& scope);

/// Inputs of a site: one tensor a batch, [B*N, C].
struct SiteActivations {
  std::vector<const Tensor*> x;
  std::vector<const TokenBatch*> batches;
};

}  // namespace quell
