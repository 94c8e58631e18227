#include <algorithm>
#include <functional>

#include "quell/base/error.h"
#include "quell/quant/observers/observer.h"

namespace quell {
namespace {

/// How the ranges of batches become one.
enum class Combine { kWidest, kMean, kEma };

class OverBatches final : public Observer {
 public:
  using Observer::observe;
  explicit OverBatches(Combine combine) : combine_(combine) {}
  void observe(Range batch) override {
    const auto n = static_cast<float>(count_++);
    constexpr float kKeep = 0.9F;
    if (n == 0.0F)
      range_ = batch;
    else if (combine_ == Combine::kWidest)
      range_ = {std::min(range_.min, batch.min), std::max(range_.max, batch.max)};
    else if (combine_ == Combine::kMean)  // in the reference's order of operations
      range_ = {(range_.min * n + batch.min) / (n + 1.0F),
                (range_.max * n + batch.max) / (n + 1.0F)};
    else
      range_ = {range_.min * kKeep + batch.min * (1 - kKeep),
                range_.max * kKeep + batch.max * (1 - kKeep)};
  }
  Range range() const override { return range_; }

 private:
  Combine combine_;
  int count_ = 0;
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
  bool searches() const override { return true; }

 private:
  std::unique_ptr<Observer> over_batches_;
  std::function<Range(TokenRows)> rule_;
};

}  // namespace

std::vector<std::string> observer_names() {
  return {"minmax",  "avg_minmax", "ema_minmax", "avg_quantile", "ema_quantile", "mse",
          "avg_mse", "ema_mse",    "mse_fast",   "avg_mse_fast", "ema_mse_fast"};
}

std::unique_ptr<Observer> make_observer(const ObserverChoice& choice, const QuantSpec& spec) {
  const std::vector<std::string> names = observer_names();
  std::string known;
  for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
  require(std::find(names.begin(), names.end(), choice.name) != names.end(), ErrorCode::kUsage,
          "observer \"", choice.name, "\" is unknown; known are ", known);
  const bool ema = choice.name.starts_with("ema_");
  auto over_batches =
      std::make_unique<OverBatches>(ema                               ? Combine::kEma
                                    : choice.name.starts_with("avg_") ? Combine::kMean
                                                                      : Combine::kWidest);
  if (choice.name.ends_with("quantile")) {
    const double quantile = choice.quantile > 0 ? choice.quantile : ema ? 0.9999 : 0.999;
    return std::make_unique<OfValues>(std::move(over_batches), [quantile](TokenRows rows) {
      return quantile_range(rows, quantile);
    });
  }
  if (choice.name.ends_with("mse_fast"))
    return std::make_unique<OfValues>(
        std::move(over_batches), [spec](TokenRows rows) { return fast_mse_range(rows, spec); });
  if (choice.name.ends_with("mse"))
    return std::make_unique<OfValues>(std::move(over_batches),
                                      [spec](TokenRows rows) { return mse_range(rows, spec); });
  return over_batches;
}

}  // namespace quell
