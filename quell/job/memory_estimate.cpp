#include "quell/job/memory_estimate.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "quell/graph/forms.h"

namespace quell {

std::uint64_t available_memory() {
  std::ifstream in("/proc/meminfo");
  std::uint64_t kilobytes = 0;
  for (std::string line; std::getline(in, line);)
    if (std::sscanf(line.c_str(), "MemAvailable: %lu kB", &kilobytes) == 1) return kilobytes << 10;
  return 0;
}

BatchSize BatchSize::of(const std::vector<TokenBatch>& batches) {
  BatchSize size;
  for (const TokenBatch& b : batches) {
    size.sequences += b.batch;
    size.tokens += b.rows();
  }
  return size;
}

std::uint64_t rows_of(const Model& model, ValueId v, const BatchSize& size) {
  const RowSpace& rows = model.graph.value(v).type.rows;
  const auto sequences = static_cast<std::uint64_t>(size.sequences);
  const auto tokens = static_cast<std::uint64_t>(size.tokens);
  switch (rows.kind) {
    case RowSpace::Kind::kTokens: {
      const bool queries = model.spec.num_queries > 0 &&
                           model.graph.stacks[static_cast<std::size_t>(rows.stack)].decoder;
      return queries ? sequences * static_cast<std::uint64_t>(model.spec.num_queries) : tokens;
    }
    case RowSpace::Kind::kPatches: return tokens;
    case RowSpace::Kind::kSequences: return sequences;
    case RowSpace::Kind::kTable: return static_cast<std::uint64_t>(rows.rows);
    case RowSpace::Kind::kImage:
      return sequences * static_cast<std::uint64_t>(rows.height * rows.width);
    case RowSpace::Kind::kScores: break;
  }
  return 0;
}

std::uint64_t most_values(const Model& model, const BatchSize& size) {
  const Graph& graph = model.graph;
  const auto elements = [&](ValueId v) {
    return rows_of(model, v, size) * static_cast<std::uint64_t>(graph.value(v).type.columns);
  };
  std::uint64_t there = 0;
  std::uint64_t most = 0;
  for (const NodeId n : graph.order()) {
    const Node& node = graph.node(n);
    if (!node.op->view) there += elements(node.out);
    most = std::max(most, there);

    std::vector<ValueId> gone;
    for (const ValueId v : node.in) {
      if (v == kNoValue || graph.is_weight(v) || graph.value(v).input != InputKind::kNone) continue;
      const ValueId held = concrete(graph, v);
      const bool seen = std::find(gone.begin(), gone.end(), held) != gone.end();
      if (seen || graph.last_use(held) != n || graph.is_output(held)) continue;
      gone.push_back(held);
      there -= elements(held);
    }
  }
  return most;
}

}  // namespace quell
