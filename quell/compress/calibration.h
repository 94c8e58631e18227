// Ranges of static quantizers from calibration batches, and the reference implementation's order of
// work: a first look while sites are searched, and one more pass over all batches when every site
// has been migrated.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "quell/compress/attention_points.h"
#include "quell/compress/site.h"
#include "quell/engine/engines.h"
#include "quell/quant/observers/observer.h"

namespace quell {

/// Shows the observer the tokens of one batch, padding left out; of images, one after the other. x:
/// [rows, channels]. Throws Error(kNumeric) with `name` where a value is not finite.
void observe_rows(Observer& observer, const TensorView& x, const TokenBatch& batch,
                  const std::string& name);

/// Of the quantizers inside one attention.
using PointObservers = std::map<AttentionPoint, std::unique_ptr<Observer>>;

/// Runs attention `node` once, its inputs stay, and shows each observer its operand before that is
/// quantized (of the probabilities the range). `seen` may be empty, or gives the point its new
/// quantizer.
void observe_attention(int node, const PointObservers& observers, Executor& executor,
                       const Model& model, const std::function<void(AttentionPoint)>& seen);

/// The quantizers that get their ranges after the search, and what their observers have seen so
/// far.
class LaterRanges {
 public:
  void add(const Site& site, std::unique_ptr<Observer> observer);
  void add(int attention, AttentionPoint point, std::unique_ptr<Observer> observer);
  bool empty() const { return sites_.empty() && attentions_.empty(); }

  /// One pass over all batches. Every quantizer sees a batch and takes its new range before it
  /// quantizes that batch, so that what comes behind it sees quantized values. `ops` must read the
  /// quantizers from `model` at every call.
  void calibrate(Model& model, const OpTable& ops, const std::vector<TokenBatch>& samples,
                 ExecContext& ctx);

 private:
  struct OfSite {
    std::string name;
    std::vector<ValueId> values;
    std::unique_ptr<Observer> observer;
  };

  void calibrate_site(OfSite& site, ValueId value, const Executor& executor, Model& model);
  void calibrate_attention(NodeId node, const PointObservers& observers, Executor& executor,
                           const Model& model);
  NodeId last_node(const Model& model) const;

  std::vector<OfSite> sites_;
  std::map<int, PointObservers> attentions_;  ///< by node
  ActivationQuantizers now_;                  ///< of the pass over all batches
};

}  // namespace quell
