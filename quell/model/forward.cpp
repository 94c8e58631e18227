#include "quell/model/forward.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

bool finite(std::span<const float> values) {
  bool ok = true;
  for (const float v : values) ok &= std::isfinite(v);
  return ok;
}

class StepModel final : public ForwardModel {
 public:
  StepModel(const Model& model, OpTable ops, FusionTable fused, bool quantized)
      : model_(model), ops_(std::move(ops)), fused_(std::move(fused)), quantized_(quantized) {}
  void forward(const TokenBatch& batch, ForwardOutputs& outputs, ExecContext& ctx) const override {
    run_forward(model_, ops_, fused_, quantized_, batch, outputs, ctx);
  }
  const Model& model() const override { return model_; }

 private:
  const Model& model_;
  OpTable ops_;
  FusionTable fused_;
  bool quantized_;
};

template <typename MakeOp>
OpTable make_ops(const Model& model, MakeOp make_op) {
  OpTable ops(model.graph.nodes.size());
  for (std::size_t n = 0; n < ops.size(); ++n)
    if (model.graph.nodes[n].kind == StepKind::kLinear) ops[n] = make_op(static_cast<int>(n));
  return ops;
}

/// A float linear that owns its weight.
class OwningLinear final : public LinearOp {
 public:
  OwningLinear(Tensor weight, TensorView bias)
      : weight_(std::move(weight)), linear_(weight_, std::move(bias)) {}
  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override {
    linear_.forward(x, y, ctx);
  }
  std::string describe() const override {
    return "f32 on dequantized weights: its input depends on weights alone";
  }

 private:
  Tensor weight_;
  FloatLinear linear_;
};

/// Makes the simulated operator of a linear for one call: its dequantized weights take no memory in
/// between.
class TransientLinear final : public LinearOp {
 public:
  TransientLinear(const Model& model, int node, bool exact, Isa isa)
      : model_(model), node_(node), exact_(exact), isa_(isa) {}
  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override {
    make()->forward(x, y, ctx);
  }
  std::string describe() const override { return make()->describe(); }

 private:
  std::unique_ptr<LinearOp> make() const { return make_simulated_op(model_, node_, exact_, isa_); }
  const Model& model_;
  int node_;
  bool exact_;
  Isa isa_;
};

int producer_of_output(const Graph& graph, const std::string& name) {
  for (const auto& [output, value] : graph.outputs)
    if (output == name) return graph.producer[static_cast<std::size_t>(value)];
  throw Error(ErrorCode::kUsage, "this model gives no \"" + name + "\"");
}

std::unique_ptr<LinearOp> make_float_op(const Model& model, int node) {
  const Param& p = model.param_of(node);
  return std::make_unique<FloatLinear>(model.weight_of(p), p.bias);
}

}  // namespace

void run_forward(const Model& model, const OpTable& ops, const FusionTable& fused, bool quantized,
                 const TokenBatch& batch, ForwardOutputs& outputs, ExecContext& ctx) {
  Executor executor(model, ops, quantized, batch, ctx, &fused, outputs.cached);
  const Graph& graph = model.graph;
  outputs.hidden_states.clear();
  outputs.values.clear();
  const int last = outputs.embedding_only ? producer_of_output(graph, "last_hidden_state")
                                          : static_cast<int>(graph.nodes.size()) - 1;
  const auto wanted = [&](const auto& output) {
    return !outputs.embedding_only || output.first == "last_hidden_state";
  };

  std::map<ValueId, Tensor> kept;
  const auto keep = [&](int node) {
    const ValueId v = graph.nodes[static_cast<std::size_t>(node)].out;
    const bool hidden =
        outputs.want_hidden_states &&
        std::any_of(graph.hidden_states.begin(), graph.hidden_states.end(),
                    [&](const auto& s) { return std::count(s.begin(), s.end(), v) > 0; });
    const bool output = std::any_of(graph.outputs.begin(), graph.outputs.end(),
                                    [&](const auto& o) { return o.second == v && wanted(o); });
    if (hidden || output) kept.emplace(v, executor.restored(v));
  };
  for (int n = 0; n <= last; ++n) {
    executor.run({n, n + 1});
    keep(n);
    if (outputs.last_tokens_only && n + 1 == graph.blocks.back().end)
      executor.keep_last_rows(graph.nodes[static_cast<std::size_t>(n)].out);
  }
  if (outputs.cached)
    for (std::int64_t b = 0; b < batch.batch; ++b)
      outputs.cached->cache->advance(outputs.cached->slots[static_cast<std::size_t>(b)],
                                     batch.row_count(b));
  if (outputs.want_hidden_states)
    for (const auto& states : graph.hidden_states) {
      auto& stack = outputs.hidden_states.emplace_back();
      for (const ValueId v : states) stack.push_back(kept.at(v).clone());
    }
  for (const auto& output : graph.outputs)
    if (wanted(output)) outputs.values[output.first] = kept.at(output.second).clone();
  if (model.sentence.defined())
    outputs.values["embedding"] =
        embed(model.sentence, outputs.values.at("last_hidden_state"), batch, ctx);
  for (const auto& [name, tensor] : outputs.values)
    require(finite(tensor.f32()), ErrorCode::kNumeric, model.dir.path().string(), ": ", name,
            " holds NaN or infinity; the weights are damaged or overflow f32");
}

bool takes_packed_batches(const ModelSpec& spec) {
  if (spec.stacks.size() != 1 || spec.patch_size > 0) return false;

  const Stack& stack = spec.stacks.front();
  const bool by_distance =
      std::any_of(stack.layers.begin(), stack.layers.end(),
                  [](const LayerRef& layer) { return layer.attention.disentangled.span > 0; });
  return !by_distance && stack.relative_bias.buckets == 0;
}

bool reads_constant(const Model& model, int node) {
  return model.graph
      .constant[static_cast<std::size_t>(model.graph.nodes[static_cast<std::size_t>(node)].in[0])];
}

std::unique_ptr<LinearOp> make_dequantized_op(const Model& model, int node) {
  const Param& p = model.param_of(node);
  return std::make_unique<OwningLinear>(dequantize(*p.quantized), p.bias);
}

std::unique_ptr<LinearOp> make_simulated_op(const Model& model, int node, bool exact, Isa isa) {
  const Param& p = model.param_of(node);
  if (!p.quantized) return make_float_op(model, node);
  const auto input =
      model.input_quant.find(model.graph.nodes[static_cast<std::size_t>(node)].in[0]);
  if (reads_constant(model, node)) return make_dequantized_op(model, node);
  require(input != model.input_quant.end(), ErrorCode::kInvalidInput, model.node_name(node),
          ": quantized weights without an input quantizer");
  if (exact)
    return std::make_unique<IntegerLinear>(
        *p.quantized, p.bias, input->second,
        IntegerLinearOptions{.isa = isa, .exact_simulation = true});
  return make_fake_quantized_linear(*p.quantized, p.bias, input->second, model.rounding);
}

std::unique_ptr<LinearOp> make_transient_op(const Model& model, int node, bool exact, Isa isa) {
  if (!model.param_of(node).quantized) return make_float_op(model, node);
  return std::make_unique<TransientLinear>(model, node, exact, isa);
}

OpTable make_float_ops(const Model& model) {
  return make_ops(model, [&](int node) { return make_float_op(model, node); });
}
OpTable make_simulated_ops(const Model& model, bool exact, Isa isa) {
  return make_ops(model, [&](int node) {
    return model.scratch ? make_transient_op(model, node, exact, isa)
                         : make_simulated_op(model, node, exact, isa);
  });
}

std::unique_ptr<ForwardModel> make_step_model(const Model& model, OpTable ops, FusionTable fused,
                                              bool quantized) {
  return std::make_unique<StepModel>(model, std::move(ops), std::move(fused), quantized);
}
std::unique_ptr<ForwardModel> make_float_model(const Model& model) {
  return make_step_model(model, make_float_ops(model), {}, false);
}
std::unique_ptr<ForwardModel> make_bf16_model(const Model& model) {
  return make_step_model(model,
                         make_ops(model,
                                  [&](int node) -> std::unique_ptr<LinearOp> {
                                    const Param& p = model.param_of(node);
                                    return std::make_unique<Bf16Linear>(model.weight_of(p), p.bias);
                                  }),
                         {}, false);
}
std::unique_ptr<ForwardModel> make_simulated_model(const Model& model, bool exact, Isa isa) {
  FusionTable fused;
  if (exact && !model.attention_quant.empty()) {
    fused.ops.resize(model.graph.nodes.size());
    fused.covered.resize(model.graph.nodes.size());
    for (const auto& [node, quant] : model.attention_quant)
      fused.ops[static_cast<std::size_t>(node)] =
          make_integer_attention(model, node, true, nullptr);
  }
  return make_step_model(model, make_simulated_ops(model, exact, isa), std::move(fused), true);
}

}  // namespace quell
