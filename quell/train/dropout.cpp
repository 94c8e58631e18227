#include "quell/train/dropout.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/graph/ops.h"

namespace quell::train {
namespace {

void check_rate(double rate) {
  require(rate >= 0 && rate < 1, ErrorCode::kUsage, "a dropout rate of ", rate,
          " is not in [0, 1)");
}

bool is_linear(const Graph& graph, ValueId v) { return graph.is_from(v, op_linear); }

}  // namespace

DropoutPoints dropout_points(const Graph& graph, const DropoutRates& rates) {
  for (const double rate : {rates.hidden, rates.attention, rates.head}) check_rate(rate);
  DropoutPoints points;

  for (const StackInfo& stack : graph.stacks)
    if (!stack.hidden_states.empty() && rates.hidden > 0)
      points.values[stack.hidden_states.front()] = rates.hidden;

  for (const NodeId n : graph.order()) {
    const Node& node = graph.node(n);
    if (node.is(op_attention) && rates.attention > 0) points.maps[n] = rates.attention;

    const bool in_layer = node.place.layer >= 0;
    if (node.is(op_add) && in_layer && rates.hidden > 0)
      for (const ValueId v : node.in)
        if (is_linear(graph, v)) points.values[v] = rates.hidden;

    const bool classifies =
        node.param != kNoParam && graph.param(node.param).role == Role::kClassifier;
    if (classifies && rates.head > 0) points.values[node.in[0]] = rates.head;
  }
  return points;
}

torch::Tensor drop_out(const torch::Tensor& x, double rate, const DropoutDraw& draw,
                       std::uint64_t place) {
  check_rate(rate);
  if (rate == 0) return x;

  // A stream of its own for each seed, step and place.
  Random seeds(draw.seed);
  Random steps(seeds.next() ^ static_cast<std::uint64_t>(draw.step));
  Random places(steps.next() ^ place);
  Random random(places.next());

  // Thirty-two bits decide over an element.
  const auto threshold = static_cast<std::uint32_t>(std::llround(rate * 0x1.0p32));
  const auto kept = static_cast<float>(1 / (1 - rate));
  torch::Tensor factors = torch::empty(x.sizes(), torch::kFloat32);
  float* const out = factors.data_ptr<float>();
  const std::int64_t count = factors.numel();
  for (std::int64_t i = 0; i < count; i += 2) {
    const std::uint64_t bits = random.next();
    out[i] = static_cast<std::uint32_t>(bits) < threshold ? 0.0F : kept;
    if (i + 1 < count)
      out[i + 1] = static_cast<std::uint32_t>(bits >> 32) < threshold ? 0.0F : kept;
  }
  return x * factors.to(x.scalar_type());
}

}  // namespace quell::train
