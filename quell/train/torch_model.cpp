#include "quell/train/torch_model.h"

#include <algorithm>
#include <set>

#include "quell/base/error.h"
#include "quell/engine/executor.h"
#include "quell/graph/forms.h"
#include "quell/train/torch_op.h"

namespace quell::train {

const TorchOp* find_torch_op(const OpDef& op) {
  for (const TorchOp* candidate : all_of(static_cast<const TorchOp*>(nullptr)))
    if (candidate->op == &op) return candidate;
  return nullptr;
}

namespace {

/// One batch on its way through the graph. Values are kept until their last use, or where they are
/// asked for.
class Pass {
 public:
  Pass(const TorchModel& model, const TokenBatch& batch, const Taps& taps,
       const std::optional<DropoutDraw>& draw);
  TorchOutputs run();

  const TorchModel& model() const { return model_; }
  const Graph& graph() const { return model_.graph(); }
  const TokenBatch& tokens(int stack) const {
    const bool decodes = graph().stacks[static_cast<std::size_t>(stack)].decoder;
    return decodes && decoder_.length > 0 ? decoder_ : batch_;
  }
  torch::Tensor value(ValueId v) const;
  torch::Tensor quantized_weight(const Node& quantizer, const torch::Tensor& matrix);
  torch::Tensor quantized_value(const Node& quantizer, const torch::Tensor& x) const;
  torch::Tensor stage(NodeId n, AttentionStage stage, torch::Tensor x);

 private:
  void check() const;
  torch::Tensor source(ValueId v) const;
  void run_node(NodeId n);
  void drop_dead(NodeId n);
  /// What the slot made of its tensor, computed once a pass.
  torch::Tensor once(const TensorFunction& slot, const torch::Tensor& whole);

  const TorchModel& model_;
  const TokenBatch& batch_;
  TokenBatch decoder_;  ///< empty where the model has no decoder behind an encoder
  const std::optional<DropoutDraw>& draw_;
  std::set<ValueId> wanted_;
  std::set<AttentionPoint> points_;
  std::vector<torch::Tensor> values_;
  std::vector<NodeId> last_use_;  ///< by value
  std::map<const TensorFunction*, torch::Tensor> made_by_slots_;
  TorchOutputs outputs_;
};

/// A node as its function sees it.
class Call final : public TorchCall {
 public:
  Call(Pass& pass, NodeId id) : pass_(pass), id_(id), node_(pass.graph().node(id)) {}

  const Graph& graph() const override { return pass_.graph(); }
  const Node& node() const override { return node_; }
  const ModelSpec& spec() const override { return pass_.model().model().spec; }
  torch::ScalarType dtype() const override { return pass_.model().dtype(); }
  torch::Tensor in(std::size_t i) const override { return pass_.value(node_.in[i]); }

  torch::Tensor weight() const override {
    const ValueId matrix = graph().weight_operand(node_);
    return matrix == kNoValue ? parameters().weight(node_.param) : pass_.value(matrix);
  }
  torch::Tensor bias() const override { return parameters().bias(node_.param); }
  torch::Tensor vector(std::size_t i) const override { return parameters().vector(node_.param, i); }

  const TokenBatch& tokens() const override { return pass_.tokens(node_.place.stack); }
  const TokenBatch& first_tokens() const override { return pass_.tokens(0); }

  torch::Tensor quantized() override {
    if (node_.is(op_quantize_weight)) return pass_.quantized_weight(node_, in(0));
    return pass_.quantized_value(node_, in(0));
  }
  torch::Tensor stage(AttentionStage stage, torch::Tensor x) override {
    return pass_.stage(id_, stage, std::move(x));
  }

 private:
  const TorchParameters& parameters() const { return pass_.model().parameters(); }

  Pass& pass_;
  NodeId id_;
  const Node& node_;
};

Pass::Pass(const TorchModel& model, const TokenBatch& batch, const Taps& taps,
           const std::optional<DropoutDraw>& draw)
    : model_(model),
      batch_(batch),
      draw_(draw),
      wanted_(taps.values.begin(), taps.values.end()),
      points_(taps.attention.begin(), taps.attention.end()),
      values_(static_cast<std::size_t>(graph().num_values())),
      last_use_(values_.size(), kNoNode) {
  if (graph().is_encoder_decoder()) decoder_ = decoder_batch(model.model().spec, batch);
  check();
  for (const NodeId n : graph().order())
    for (const ValueId v : graph().node(n).in)
      if (v != kNoValue) last_use_[static_cast<std::size_t>(v)] = n;
}

void Pass::check() const {
  const Model& model = model_.model();
  require(batch_.length > 0 && batch_.batch > 0, ErrorCode::kInvalidInput, "empty batch");
  require(batch_.starts.empty() && batch_.past.empty(), ErrorCode::kInvalidInput,
          "training reads padded batches only");
  require(model.reads_images() == !batch_.pixels.empty(), ErrorCode::kInvalidInput,
          model.spec.model_type,
          model.reads_images() ? " reads images, not tokens" : " reads tokens, not images");

  const std::int64_t longest = std::max(batch_.length, decoder_.length);
  require(longest <= model.spec.max_position_embeddings, ErrorCode::kInvalidInput, "a sequence of ",
          longest, " tokens is longer than the model's ", model.spec.max_position_embeddings,
          " positions");

  for (const ValueId v : wanted_)
    require(v >= 0 && v < graph().num_values(), ErrorCode::kUsage, "a tap of value ", v,
            ", which the graph does not have");
  for (const AttentionPoint& point : points_)
    require(point.node >= 0 && point.node < graph().num_nodes() &&
                graph().node(point.node).is(op_attention),
            ErrorCode::kUsage, "a tap of node ", point.node, ", which is no attention");
}

TorchOutputs Pass::run() {
  for (const NodeId n : graph().order()) run_node(n);

  for (const auto& [name, v] : graph().outputs) outputs_.values[name] = value(v);
  for (const ValueId v : wanted_) outputs_.taps[v] = value(v);
  return std::move(outputs_);
}

torch::Tensor Pass::value(ValueId v) const {
  const torch::Tensor& there = values_[static_cast<std::size_t>(v)];
  return there.defined() ? there : source(v);
}

torch::Tensor Pass::source(ValueId v) const {
  const Value& value = graph().value(v);
  const TokenBatch& batch = tokens(value.type.rows.stack);
  switch (value.input) {
    case InputKind::kTokenIds: return to_torch(batch.ids);
    case InputKind::kTokenTypeIds: return to_torch(batch.type_ids);
    case InputKind::kPixels: {
      const Shape shape{std::ssize(batch.pixels)};
      return to_torch(TensorView(batch.pixels.data(), DType::kF32, shape), model_.dtype());
    }
    case InputKind::kNone: break;
  }
  return model_.parameters().weight(value.param);
}

void Pass::run_node(NodeId n) {
  const Node& node = graph().node(n);
  Call call(*this, n);
  torch::Tensor out = find_torch_op(*node.op)->forward(call);

  const auto dropped = model_.dropout().values.find(node.out);
  if (draw_ && dropped != model_.dropout().values.end())
    out = drop_out(out, dropped->second, *draw_, 2 * static_cast<std::uint64_t>(n));
  values_[static_cast<std::size_t>(node.out)] = std::move(out);
  drop_dead(n);
}

/// Values that nobody reads behind this node.
void Pass::drop_dead(NodeId n) {
  for (const ValueId v : graph().node(n).in) {
    if (v == kNoValue || last_use_[static_cast<std::size_t>(v)] != n) continue;
    if (wanted_.contains(v) || graph().is_output(v)) continue;
    values_[static_cast<std::size_t>(v)].reset();
  }
}

torch::Tensor Pass::quantized_value(const Node& quantizer, const torch::Tensor& x) const {
  const auto& slots = model_.quantizers().values;
  const auto found = slots.find(base_of(graph(), quantizer.out));
  return found == slots.end() ? x : found->second(x);
}

torch::Tensor Pass::once(const TensorFunction& slot, const torch::Tensor& whole) {
  torch::Tensor& made = made_by_slots_[&slot];
  if (!made.defined()) made = slot(whole);
  return made;
}

torch::Tensor Pass::quantized_weight(const Node& quantizer, const torch::Tensor& matrix) {
  const QuantizerSlots& slots = model_.quantizers();
  const TorchParameters& parameters = model_.parameters();
  const ParamId readers = weight_quantizer_of(quantizer).readers;

  // A tied parameter without a function of its own shares its table's.
  const ParamId table = graph().param(readers).tied_to;
  for (const ParamId p : {readers, table}) {
    const auto found = p == kNoParam ? slots.weights.end() : slots.weights.find(p);
    if (found != slots.weights.end()) return once(found->second, matrix);
  }

  const std::string& name = parameters.stored_weight(readers);
  const auto fused = slots.fused.find(name);
  if (fused == slots.fused.end()) return matrix;
  return parameters.part_of(once(fused->second, parameters.at(name)), readers);
}

torch::Tensor Pass::stage(NodeId n, AttentionStage stage, torch::Tensor x) {
  const AttentionPoint point{n, stage};
  if (points_.contains(point)) outputs_.attention[point] = x;

  const auto dropped = model_.dropout().maps.find(n);
  const bool drops =
      draw_ && stage == AttentionStage::kMap && dropped != model_.dropout().maps.end();
  if (drops) x = drop_out(x, dropped->second, *draw_, 2 * static_cast<std::uint64_t>(n) + 1);

  const auto& slots = model_.quantizers().attention;
  const auto slot = slots.find(point);
  return slot == slots.end() ? x : slot->second(x);
}

/// Names of ops that the graph has and this folder does not.
std::string missing_ops(const Graph& graph) {
  std::set<std::string> names;
  for (const NodeId n : graph.order())
    if (!find_torch_op(*graph.node(n).op)) names.insert(std::string(graph.node(n).op->name));

  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

ValueId attention_output(const Graph& graph, NodeId attention) {
  for (const NodeId n : readers_of(graph, graph.node(attention).out))
    if (graph.node(n).is(op_linear)) return graph.node(n).out;
  return kNoValue;
}

TorchModel::TorchModel(const Model& model, torch::ScalarType dtype)
    : model_(model), dtype_(dtype), parameters_(model, dtype) {
  require(dtype == torch::kFloat32 || dtype == torch::kFloat64, ErrorCode::kUsage,
          "models are trained in float32 or float64");
  const std::string missing = missing_ops(model.graph);
  require(missing.empty(), ErrorCode::kUnsupported, model.spec.model_type,
          " cannot be trained: no gradient of ", missing);
}

TorchOutputs TorchModel::forward(const TokenBatch& batch, const Taps& taps,
                                 const std::optional<DropoutDraw>& draw) const {
  return Pass(*this, batch, taps, draw).run();
}

std::vector<torch::Tensor> TorchModel::trained_tensors() const {
  std::vector<torch::Tensor> out;
  for (const TorchParameter& p : parameters_.trained()) out.push_back(p.tensor);
  return out;
}

void TorchModel::set_quantizers(QuantizerSlots quantizers) {
  const Graph& graph = model_.graph;
  for (const auto& [v, slot] : quantizers.values)
    require(v >= 0 && v < graph.num_values() && base_of(graph, v) == v &&
                quantize_node(graph, v) != kNoNode,
            ErrorCode::kUsage, "a quantizer of value ", v, ", which no quantize node reads");
  for (const auto& [p, slot] : quantizers.weights)
    require(p >= 0 && p < graph.num_params() && weight_quant_of(graph, p), ErrorCode::kUsage,
            "a quantizer of parameter ", p, ", which no node reads through one");
  for (const auto& [name, slot] : quantizers.fused) {
    bool is_read = false;
    for (ParamId p = 0; p < graph.num_params(); ++p)
      is_read |= parameters_.stored_weight(p) == name && weight_quant_of(graph, p);
    require(is_read, ErrorCode::kUsage, "a quantizer of \"", name,
            "\", which no node reads through one");
  }
  for (const auto& [point, slot] : quantizers.attention) {
    const bool is_attention = point.node >= 0 && point.node < graph.num_nodes() &&
                              graph.node(point.node).is(op_attention);
    const bool is_quantized =
        point.stage != AttentionStage::kScores && point.stage != AttentionStage::kContext;
    require(is_attention && is_quantized, ErrorCode::kUsage, "a quantizer of stage ",
            static_cast<int>(point.stage), " of node ", point.node,
            ", which is no operand of a product of an attention");
  }
  quantizers_ = std::move(quantizers);
}

}  // namespace quell::train
