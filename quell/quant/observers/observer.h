// Static ranges from calibration batches.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quell/quant/quant_spec.h"

namespace quell {

/// Sees one batch a call (padding already removed by the caller) and keeps a range. Single-threaded.
class Observer {
 public:
  virtual ~Observer() = default;
  /// Range of one batch.
  virtual void observe(Range batch) = 0;
  virtual Range range() const = 0;
};

/// "minmax": over all batches. "avg_minmax": mean of the batch minima and of the batch maxima. "ema_minmax": v <- 0.9 v + 0.1
/// batch, starting from the first batch. Throws Error(kUsage) on another name.
std::unique_ptr<Observer> make_observer(const std::string& name);
std::vector<std::string> observer_names();

}  // namespace quell
