#include "quell/compress/attention_points.h"

#include <algorithm>
#include <limits>

namespace quell {
namespace {

constexpr Range kNothing{std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity()};

void widen(Range& range, float low, float high) {
  range.min = std::min(range.min, low);
  range.max = std::max(range.max, high);
}

}  // namespace

PointTap::PointTap(const Executor& executor, See see)
    : executor_(executor), see_(std::move(see)), probs_(kNothing) {}

void PointTap::operator()(NodeId node, const StageView& stage) {
  switch (stage.stage) {
    case AttentionStage::kQuery: return see_(node, AttentionPoint::kQuery, stage.values, {});
    case AttentionStage::kKey: return see_(node, AttentionPoint::kKey, stage.values, {});
    case AttentionStage::kValue: return see_(node, AttentionPoint::kValue, stage.values, {});
    case AttentionStage::kScores: return;
    case AttentionStage::kMap: {
      const int stack = executor_.model().graph.node(node).place.stack;
      return see_map(executor_.tokens(stack), stage);
    }
    case AttentionStage::kContext: {
      const Range all = std::exchange(probs_, kNothing);
      const bool any = all.min <= all.max;
      if (any) see_(node, AttentionPoint::kProbs, TensorView(), all);
    }
  }
}

void PointTap::see_map(const TokenBatch& queries, const StageView& map) {
  Range found = kNothing;
  const std::int64_t first = queries.row_begin(map.sequence);
  for (std::int64_t i = 0; i < map.values.rows(); ++i) {
    if (queries.mask[static_cast<std::size_t>(first + i)] == 0) continue;
    const float* row = map.values.row(i);
    const auto [low, high] = std::minmax_element(row, row + map.values.cols());
    widen(found, *low, *high);
  }

  const std::lock_guard lock(mutex_);
  widen(probs_, found.min, found.max);
}

}  // namespace quell
