#include <algorithm>

#include "quell/base/error.h"
#include "quell/quant/observers/observer.h"

namespace quell {
namespace {

class MinMax final : public Observer {
 public:
  void observe(Range batch) override {
    range_ = first_ ? batch : Range{std::min(range_.min, batch.min), std::max(range_.max, batch.max)};
    first_ = false;
  }
  Range range() const override { return range_; }

 private:
  bool first_ = true;
  Range range_;
};

/// Running mean in the reference's order of operations: (mean * n + batch) / (n + 1) in f32.
class AvgMinMax final : public Observer {
 public:
  void observe(Range batch) override {
    const auto n = static_cast<float>(count_++);
    range_ = {(range_.min * n + batch.min) / (n + 1.0F), (range_.max * n + batch.max) / (n + 1.0F)};
  }
  Range range() const override { return range_; }

 private:
  int count_ = 0;
  Range range_;
};

class EmaMinMax final : public Observer {
 public:
  void observe(Range batch) override {
    constexpr float kKeep = 0.9F;
    range_ = first_ ? batch : Range{range_.min * kKeep + batch.min * (1 - kKeep), range_.max * kKeep + batch.max * (1 - kKeep)};
    first_ = false;
  }
  Range range() const override { return range_; }

 private:
  bool first_ = true;
  Range range_;
};

}  // namespace

std::vector<std::string> observer_names() { return {"minmax", "avg_minmax", "ema_minmax"}; }

std::unique_ptr<Observer> make_observer(const std::string& name) {
  if (name == "minmax") return std::make_unique<MinMax>();
  if (name == "avg_minmax") return std::make_unique<AvgMinMax>();
  if (name == "ema_minmax") return std::make_unique<EmaMinMax>();
  throw Error(ErrorCode::kUsage, "observer \"" + name + "\" is unknown; use minmax, avg_minmax or ema_minmax");
}

}  // namespace quell
