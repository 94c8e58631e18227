// Static ranges from calibration batches.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quell/quant/observers/batch_range.h"

namespace quell {

/// Makes one range of many batches. Single-threaded.
class Observer {
 public:
  virtual ~Observer() = default;
  /// Range of one batch, where its values are not at hand (attention probabilities).
  virtual void observe(Range batch) = 0;
  /// Values of one batch, a token each, padding left out.
  virtual void observe(TokenRows rows) { observe(min_max_range(rows)); }
  virtual Range range() const = 0;
  /// Whether every value is looked at many times, so that of images a part has to do.
  virtual bool searches() const { return false; }
};

/// How ranges are found; `quantile` 0 is the default of the observer.
struct ObserverChoice {
  std::string name = "avg_minmax";
  double quantile = 0;
  /// The first batch counts twice: in the reference it has been seen while shifts and scales were
  /// searched.
  bool first_batch_twice = false;
  /// The first batch gives ranges while shifts and scales are searched; all batches give them in
  /// one pass behind that. Else all batches give a site its range as soon as it has been searched.
  bool after_search = false;
};

/// What a batch says: "minmax" its extrema, "quantile" (default 0.999, with ema_ 0.9999), "mse" for
/// codes of `spec`. Over batches: the outermost of "minmax" and "mse"; the mean with "avg_"; v <-
/// 0.9 v + 0.1 batch, starting from the first, with "ema_". Throws Error(kUsage) on another name.
std::unique_ptr<Observer> make_observer(const ObserverChoice& choice, const QuantSpec& spec = {});
std::vector<std::string> observer_names();

}  // namespace quell
