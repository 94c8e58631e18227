#include "quell/model/quantized_layout.h"

#include <algorithm>

#include "quell/graph/ops.h"
#include "quell/io/quantization_config.h"
#include "quell/model/bitnet_layout.h"
#include "quell/model/paretoq_layout.h"
#include "quell/model/quantized_checkpoint.h"

namespace quell {
namespace {

class CompressedTensorsLayout final : public QuantizedLayout {
 public:
  CompressedTensorsLayout(const Checkpoint& checkpoint, const Json& config)
      : checkpoint_(checkpoint), config_(config) {}

  bool holds(const Graph&, ParamId, const std::string& weight_name) const override {
    return is_quantized_module(checkpoint_, weight_name);
  }

  QuantizedModule read(const ParamDef& def, const std::string& weight_name, const Shape& shape,
                       std::set<std::string>& used) const override {
    QuantizedModule module;
    module.weight =
        read_quantized_weight(checkpoint_, config_, weight_name, def.packing, shape, used);
    module.input = read_input_quant(checkpoint_, config_, weight_name, used);
    return module;
  }

 private:
  const Checkpoint& checkpoint_;
  const Json& config_;
};

}  // namespace

bool is_linear(const Graph& graph, ParamId p) {
  const std::vector<NodeId>& users = graph.users(p);
  return std::any_of(users.begin(), users.end(),
                     [&](NodeId n) { return graph.node(n).is(op_linear); });
}

void check_layout(const Checkpoint& checkpoint) {
  const Settings& config = checkpoint.config();
  // MobileLLM-ParetoQ was published with weights that are rounded already.
  if (read_paretoq_bits(config) && !has_paretoq_clips(checkpoint))
    config.refuse("w_bits",
                  "the checkpoint holds no tensors \"*.weight_clip_val\" to make codes with; its "
                  "weights can be read as floats");
}

std::unique_ptr<QuantizedLayout> layout_of(const Checkpoint& checkpoint, const Json& config) {
  if (const auto bitnet = read_bitnet_settings(checkpoint.config()))
    return make_bitnet_layout(checkpoint, *bitnet);
  const auto bits = read_paretoq_bits(checkpoint.config());
  if (bits && has_paretoq_clips(checkpoint)) return make_paretoq_layout(checkpoint, *bits);
  return std::make_unique<CompressedTensorsLayout>(checkpoint, config);
}

}  // namespace quell
