// Sites: what reads one value together, with the producer that could absorb a change of it. Derived
// from the graph.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "quell/engine/engines.h"
#include "quell/quant/plan.h"

namespace quell {

/// How the linears of a site work together, which decides the loss a search minimises.
enum class SiteKind { kAttention, kMlp, kGatedMlp, kDown, kPlain };

/// Weights that several layers share tie their inputs together: then a site has several values,
/// which change together.
struct Site {
  SiteKind kind = SiteKind::kPlain;
  std::string name;  ///< "layers.0.q_proj+k_proj+v_proj"
  std::vector<ChangedValue>
      values;                  ///< ascending; their producers and whether other branches read them
  std::vector<int> linears;    ///< quantized nodes, one for each weight, in order
  std::vector<int> absorbers;  ///< further linears that read a value: they take part in a change,
                               ///< but are not quantized
  bool takes_shift = false;    ///< every producer can absorb a shift
  bool through_step = false;   ///< they lie behind a ReLU or an attention (`SiteScope::through_*`)
  bool bias_everywhere = false;  ///< producers and linears have biases, so a shift costs nothing
  std::vector<int> widening;     ///< linears whose rows can be repeated to split channels of the
                                 ///< value; empty: it cannot be
  std::string refusal;           ///< why no change is possible; empty: it is
  bool only_explicit = false;    ///< refused only because nothing in front can absorb a change: it
                                 ///< could be written down
  int attention_node = -1;       ///< kAttention: where q, k, v go
  int activation_node = -1;      ///< kGatedMlp: the activation of the gate
  bool in_block = false;
  bool has_convolution = false;  ///< some of the products are no linears
  const Model* model = nullptr;

  ValueId value() const { return values.front().value; }
  const SharedHeads& shared() const { return values.front().shared; }
  bool migratable() const { return refusal.empty(); }
  /// Whether producers can still take a scale by channel: a linear whose codes are chosen, with one
  /// step for the whole tensor, cannot and is named in a warning.
  bool producers_can_change() const;
  /// (x - shift) / scale at all values; `shift` may be undefined. Explicit where no producer can
  /// absorb it, or where asked for.
  ShiftScale change(Tensor scale, Tensor shift, bool make_explicit = false) const;
  /// At every value that its linears read: an ALBERT's last norm shares its weights with others,
  /// and feeds none of them.
  Plan set_input_quant(const ActivationQuant& quant) const;
  /// Not where `widening` is empty.
  SplitChannels split(std::vector<std::int32_t> sources) const;
};

/// Which linears beside those of the blocks are quantized, and which beside those directly in front
/// absorb changes.
struct SiteScope {
  bool projections = false;   ///< OPT-350m's project_in and project_out
  bool head = false;          ///< pooler and classifier
  bool lm_head = false;       ///< of a language model, not tied to the embedding
  bool through_relu = false;  ///< relu(x / s) = relu(x) / s: fc1 takes scales of what fc2 reads
  bool through_attention = false;  ///< rows of probabilities sum to one: v takes shifts and scales
                                   ///< of what out_proj reads
};

/// In visiting order: by the first linear of each.
std::vector<Site> derive_sites(const Model& model, const SiteScope& scope);

/// Inputs of a site: one tensor a batch and value, [B*N, C].
struct SiteActivations {
  std::vector<const Tensor*> x;
  std::vector<const TokenBatch*> batches;
  std::vector<const Tensor*> float_x = {};  ///< what the float model has there: as many as x, or
                                            ///< none where no pass reads them
  bool means_corrected = false;  ///< biases that can will give outputs their float means back
  std::vector<const Tensor*> position_bias =
      {};  ///< kAttention of T5: the table that is added to the scores, one for each x
  SharedHeads shared = {};           ///< of the site
  std::vector<ValueId> values = {};  ///< one for each x
};

/// Runs the (migrated) float `model` on `samples` as far as the last of `sites`, which are in
/// visiting order, and calls `see(index, inputs)` in front of each.
void for_each_site_input(const Model& model, const std::vector<Site>& sites,
                         const std::vector<TokenBatch>& samples, ExecContext& ctx,
                         const std::function<void(std::size_t, const SiteActivations&)>& see);

}  // namespace quell
