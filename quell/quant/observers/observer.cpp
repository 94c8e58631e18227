#include <algorithm>
#include <functional>

#include "quell/base/error.h"
#include "quell/quant/observers/observer.h"

namespace quell {
namespace {

class MinMax final : public Observer {
 public:
  using Observer::observe;
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
  using Observer::observe;
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

/// Another rule for the range of a batch.
class OfValues final : public Observer {
 public:
  OfValues(std::unique_ptr<Observer> over_batches, std::function<Range(TokenRows)> rule)
      : over_batches_(std::move(over_batches)), rule_(std::move(rule)) {}
  void observe(Range batch) override { over_batches_->observe(batch); }
  void observe(TokenRows rows) override { over_batches_->observe(rule_(rows)); }
  Range range() const override { return over_batches_->range(); }

 private:
  std::unique_ptr<Observer> over_batches_;
  std::function<Range(TokenRows)> rule_;
};

}  // namespace

std::vector<std::string> observer_names() {
  return {"minmax", "avg_minmax", "ema_minmax", "avg_quantile", "ema_quantile", "mse", "avg_mse", "ema_mse"};
}

std::unique_ptr<Observer> make_observer(const ObserverChoice& choice, const QuantSpec& spec) {
  const std::vector<std::string> names = observer_names();
  std::string known;
  for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
  require(std::find(names.begin(), names.end(), choice.name) != names.end(), ErrorCode::kUsage, "observer \"", choice.name,
          "\" is unknown; known are ", known);
  const bool average = choice.name.starts_with("avg_"), ema = choice.name.starts_with("ema_");
  std::unique_ptr<Observer> over_batches;
  if (average) over_batches = std::make_unique<AvgMinMax>();
  if (ema) over_batches = std::make_unique<EmaMinMax>();
  if (!over_batches) over_batches = std::make_unique<MinMax>();
  if (choice.name.ends_with("quantile")) {
    const double quantile = choice.quantile > 0 ? choice.quantile : ema ? 0.9999 : 0.999;
    return std::make_unique<OfValues>(std::move(over_batches),
                                      [quantile](TokenRows rows) { return quantile_range(rows, quantile); });
  }
  if (choice.name.ends_with("mse"))
    return std::make_unique<OfValues>(std::move(over_batches), [spec](TokenRows rows) { return mse_range(rows, spec); });
  return over_batches;
}

}  // namespace quell
