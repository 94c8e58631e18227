// Networks that config.json describes op by op: a key "graph" in place of a model type.
#include "quell/model/network_description.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    // For people.
    {"model"},
    {"task"},
    {"source"},
    {"parameters"},
    {"graph_format"},
    // Of what stands in front of the network or behind it.
    {"preprocess"},
    {"preprocess.*"},
    {"labels"},
    {"classes"},
    {"decode"},
};

}  // namespace

extern const Family k_graph;
const Family k_graph = {.model_type = "graph",
                        .prefix = "",
                        .build = build_described_network,
                        .description = "Networks described op by op",
                        .architectures = "",
                        .keys = kKeys,
                        .reads_is_causal = false};

}  // namespace quell
