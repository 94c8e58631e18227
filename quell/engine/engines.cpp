#include "quell/engine/engines.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/engine/lowered_op.h"
#include "quell/graph/image_ops.h"
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
  StepModel(const Model& model, OpTable ops, const Quantization& quantization,
            std::optional<Graph> lowered = std::nullopt)
      : model_(model),
        ops_(std::move(ops)),
        quantization_(quantization),
        lowered_(std::move(lowered)) {}
  void forward(const TokenBatch& batch, ForwardOutputs& outputs, ExecContext& ctx) const override {
    const Graph& graph = lowered_ ? *lowered_ : model_.graph;
    run_forward(model_, graph, ops_, quantization_, batch, outputs, ctx);
  }
  const Model& model() const override { return model_; }

 private:
  const Model& model_;
  OpTable ops_;
  Quantization quantization_;
  std::optional<Graph> lowered_;  ///< none: the model's own
};

template <typename MakeOp>
OpTable make_ops(const Model& model, MakeOp make_op) {
  OpTable ops(static_cast<std::size_t>(model.graph.num_nodes()));
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n)
    if (model.graph.node(n).op->product) ops[static_cast<std::size_t>(n)] = make_op(n);
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
  TransientLinear(const Model& model, NodeId node, bool exact, Isa isa, Rounding rounding)
      : model_(model),
        node_(node),
        exact_(exact),
        isa_(isa),
        rounding_(rounding),
        geometry_(conv_geometry(model.graph, node)) {}
  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override {
    make()->forward(x, y, ctx);
  }
  std::int64_t out_rows(std::int64_t rows) const override {
    return geometry_ ? geometry_->out_rows(rows) : rows;
  }
  std::string describe() const override { return make()->describe(); }

 private:
  std::unique_ptr<LinearOp> make() const {
    return make_simulated_op(model_, node_, exact_, isa_, rounding_);
  }
  const Model& model_;
  int node_;
  bool exact_;
  Isa isa_;
  Rounding rounding_;
  std::shared_ptr<const ConvGeometry> geometry_;  ///< null: a linear
};

int producer_of_output(const Graph& graph, const std::string& name) {
  for (const auto& [output, value] : graph.outputs)
    if (output == name) return graph.producer(concrete(graph, value));
  throw Error(ErrorCode::kUsage, "this model gives no \"" + name + "\"");
}

}  // namespace

std::unique_ptr<LinearOp> make_float_op(const Model& model, NodeId node) {
  const Param& p = model.param_of(node);
  if (auto geometry = conv_geometry(model.graph, node))
    return std::make_unique<FloatConvolution>(model.weight_of(p), p.bias, std::move(geometry));
  return std::make_unique<FloatLinear>(model.weight_of(p), p.bias);
}

void run_forward(const Model& model, const Graph& graph, const OpTable& ops,
                 const Quantization& quantization, const TokenBatch& batch, ForwardOutputs& outputs,
                 ExecContext& ctx) {
  Executor executor(model, ops, quantization, batch, ctx, &graph, outputs.cached);
  outputs.hidden_states.clear();
  outputs.values.clear();
  const auto wanted = [&](const auto& output) {
    return !outputs.embedding_only || output.first == "last_hidden_state";
  };
  std::vector<ValueId> to_keep;
  for (const auto& output : graph.outputs)
    if (wanted(output)) to_keep.push_back(output.second);
  if (outputs.want_hidden_states)
    for (const StackInfo& stack : graph.stacks)
      to_keep.insert(to_keep.end(), stack.hidden_states.begin(), stack.hidden_states.end());

  // Right behind the node that computes them: operators behind it may free what they read.
  const NodeId last =
      outputs.embedding_only ? producer_of_output(graph, "last_hidden_state") : kNoNode;
  ValueId last_block = kNoValue;
  if (!graph.blocks.empty()) last_block = model.graph.node(graph.blocks.back().end - 1).out;
  std::map<ValueId, Tensor> kept;
  for (const NodeId n : graph.order()) {
    executor.run(n);
    for (const ValueId v : to_keep)
      if (concrete(graph, v) == graph.node(n).out) kept.emplace(v, executor.seen(v));
    if (outputs.last_tokens_only && graph.node(n).out == last_block)
      executor.keep_last_rows(last_block);
    if (n == last) break;
  }
  if (outputs.cached)
    for (std::int64_t b = 0; b < batch.batch; ++b)
      outputs.cached->cache->advance(outputs.cached->slots[static_cast<std::size_t>(b)],
                                     batch.row_count(b));
  if (outputs.want_hidden_states)
    for (const StackInfo& info : graph.stacks) {
      auto& stack = outputs.hidden_states.emplace_back();
      for (const ValueId v : info.hidden_states) stack.push_back(kept.at(v).clone());
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

bool takes_packed_batches(const Model& model) {
  if (model.graph.stacks.size() != 1 || model.reads_images()) return false;

  const std::vector<Node>& nodes = model.graph.nodes();
  return std::all_of(nodes.begin(), nodes.end(), [](const Node& node) {
    if (node.is(op_attention)) return attention_of(node).disentangled.span == 0;
    const bool follows_sequences = node.is(op_position_ids) || node.is(op_select_first) ||
                                   node.is(op_select_last) || node.is(op_select_eos);
    return node.op->row_by_row || follows_sequences;
  });
}

bool reads_constant(const Model& model, NodeId node) {
  return model.graph.is_constant(model.graph.node(node).in[0]);
}

std::unique_ptr<LinearOp> make_dequantized_op(const Model& model, int node) {
  const Param& p = model.param_of(node);
  return std::make_unique<OwningLinear>(dequantize(*p.quantized), p.bias);
}

std::unique_ptr<LinearOp> make_simulated_op(const Model& model, NodeId node, bool exact, Isa isa,
                                            Rounding rounding) {
  const Param& p = model.param_of(node);
  if (!p.quantized) return make_float_op(model, node);
  const ActivationQuant* input = input_quant_of(model.graph, model.graph.node(node).in[0]);
  if (reads_constant(model, node)) return make_dequantized_op(model, node);
  require(input != nullptr, ErrorCode::kInvalidInput, model.node_name(node),
          ": quantized weights without an input quantizer");
  const auto geometry = conv_geometry(model.graph, node);
  if (exact) {
    const IntegerLinearOptions options{.isa = isa, .exact_simulation = true};
    return make_integer_product(*p.quantized, p.bias, *input, geometry, options);
  }
  return make_fake_quantized_product(*p.quantized, p.bias, *input, rounding, geometry);
}

std::unique_ptr<LinearOp> make_transient_op(const Model& model, NodeId node, bool exact, Isa isa,
                                            Rounding rounding) {
  if (!model.param_of(node).quantized) return make_float_op(model, node);
  return std::make_unique<TransientLinear>(model, node, exact, isa, rounding);
}

OpTable make_float_ops(const Model& model) {
  return make_ops(model, [&](int node) { return make_float_op(model, node); });
}
OpTable make_simulated_ops(const Model& model, bool exact, Isa isa, Rounding rounding) {
  return make_ops(model, [&](int node) {
    return model.scratch ? make_transient_op(model, node, exact, isa, rounding)
                         : make_simulated_op(model, node, exact, isa, rounding);
  });
}

std::unique_ptr<ForwardModel> make_step_model(const Model& model, OpTable ops,
                                              const Quantization& quantization) {
  return std::make_unique<StepModel>(model, std::move(ops), quantization);
}
std::unique_ptr<ForwardModel> make_float_model(const Model& model) {
  return make_step_model(model, make_float_ops(model), false);
}
std::unique_ptr<ForwardModel> make_bf16_model(const Model& model) {
  return make_step_model(model,
                         make_ops(model,
                                  [&](int node) -> std::unique_ptr<LinearOp> {
                                    const Param& p = model.param_of(node);
                                    if (!model.graph.node(node).is(op_linear))
                                      return make_float_op(model, node);
                                    return std::make_unique<Bf16Linear>(model.weight_of(p), p.bias);
                                  }),
                         false);
}
std::unique_ptr<ForwardModel> make_simulated_model(const Model& model, bool exact, Isa isa,
                                                   Rounding rounding) {
  OpTable ops = make_simulated_ops(model, exact, isa, rounding);
  if (!exact) return make_step_model(model, std::move(ops), rounding);

  Graph lowered = model.graph;
  for (const NodeId n : quantized_attentions(model.graph)) {
    const Node& attention = model.graph.node(n);
    if (has_integer_attention(attention))
      lowered.replace(n, integer_attention_node(attention, true));
  }
  for (const NodeId n : model.graph.order())
    if (std::optional<Node> mean = mean_of_codes_node(model.graph, model.graph.node(n)))
      lowered.replace(n, std::move(*mean));
  return std::make_unique<StepModel>(model, std::move(ops), rounding, std::move(lowered));
}

}  // namespace quell
