#include "quell/train/student_quantizers.h"

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/graph/forms.h"

namespace quell::train {

namespace {

/// A linear of a layer, or a pooler.
bool is_quantized_linear(const Graph& graph, const Node& node) {
  if (!node.is(op_linear) || node.param == kNoParam) return false;
  return node.place.layer >= 0 || graph.param(node.param).role == Role::kPooler;
}

const char* stage_name(AttentionStage stage) {
  switch (stage) {
    case AttentionStage::kQuery: return "query";
    case AttentionStage::kKey: return "key";
    case AttentionStage::kValue: return "value";
    case AttentionStage::kScores: return "scores";
    case AttentionStage::kMap: return "map";
    case AttentionStage::kContext: return "context";
  }
  return "";
}

bool reads_word_table(const Graph& graph, const Node& node) {
  return node.is(op_embedding) && graph.value(node.in[0]).input == InputKind::kTokenIds;
}

}  // namespace

StudentQuantizers::StudentQuantizers(const QuantizerChoices& choices, Model& model,
                                     TorchModel& student)
    : model_(model), student_(student) {
  require(&student.model() == &model, ErrorCode::kUsage,
          "quantizers are put into the model that is trained");

  QuantizerSlots slots;
  const std::vector<NodeId> order = model.graph.order();  // quantizers join it on the way
  for (const NodeId n : order) {
    const Node node = model.graph.node(n);
    if (node.is(op_attention)) add_attention(n, choices, slots);
    if (choices.embeddings && reads_word_table(model.graph, node))
      add_weight(Entry::Kind::kTable, node.param, *choices.embeddings, slots);
    if (is_quantized_linear(model.graph, node)) add_linear(n, choices, slots);
    if (node.is(op_linear)) add_tied_head(n, choices, slots);
  }
  student.set_quantizers(std::move(slots));
}

StudentQuantizers::Entry& StudentQuantizers::add(Entry::Kind kind, std::string name,
                                                 const MethodParams& method) {
  const bool of_weights = kind == Entry::Kind::kWeight || kind == Entry::Kind::kTable;
  const QuantizerFactory& factory = quantizer_factory(method.name());
  require(of_weights ? factory.weights : factory.activations, ErrorCode::kInvalidInput,
          "quantizer ", method.name(), " is not one of ", of_weights ? "weights" : "activations");

  places_.push_back(std::make_unique<Entry>());
  Entry& entry = *places_.back();
  entry.kind = kind;
  entry.name = std::move(name);
  entry.quantizer = make_quantizer(method.name(), method.values());
  return entry;
}

TensorFunction StudentQuantizers::function_of(Entry& entry) {
  return [this, &entry](const torch::Tensor& x) {
    if (initializing_ && !entry.initialized) {
      entry.quantizer->initialize(x.detach());
      entry.initialized = true;
    }
    return entry.quantizer->quantize(x);
  };
}

void StudentQuantizers::add_weight(Entry::Kind kind, ParamId p, const MethodParams& method,
                                   QuantizerSlots& slots) {
  if (slots.weights.contains(p)) return;
  const ParamDef& def = model_.graph.param(p);
  // Parameters that are rows of one tensor have quantizers, and so names, of their own.
  const std::string part = def.packing.parts > 1 ? str(" part ", def.packing.part) : "";
  Entry& entry = add(kind, def.weight_tensor() + part, method);
  entry.param = p;
  entry.tensor = student_.parameters().stored_weight(p);

  set_weight_quant(model_.graph, p, {});
  entry.quantizer->initialize(student_.parameters().weight(p).detach());
  entry.initialized = true;
  slots.weights[p] = function_of(entry);
}

void StudentQuantizers::add_linear(NodeId n, const QuantizerChoices& choices,
                                   QuantizerSlots& slots) {
  const ParamId p = model_.graph.node(n).param;
  if (choices.weights) add_weight(Entry::Kind::kWeight, p, *choices.weights, slots);
  if (choices.activations) add_input(n, *choices.activations, slots);
}

/// The table comes first in the order of nodes. Its quantizer runs once a pass, for both readers.
void StudentQuantizers::add_tied_head(NodeId n, const QuantizerChoices& choices,
                                      QuantizerSlots& slots) {
  const ParamId p = model_.graph.node(n).param;
  const ParamId table = p == kNoParam ? kNoParam : model_.graph.param(p).tied_to;
  if (table == kNoParam || !slots.weights.contains(table)) return;

  set_weight_quant(model_.graph, p, {});
  if (choices.head) add_input(n, *choices.head, slots);
}

/// Of what the linear reads, unless another linear has brought it already.
void StudentQuantizers::add_input(NodeId linear, const MethodParams& method,
                                  QuantizerSlots& slots) {
  Graph& graph = model_.graph;
  const Node node = graph.node(linear);
  const ValueId x = base_of(graph, node.in[kLinearInput]);
  if (!slots.values.contains(x)) {
    Entry& entry = add(Entry::Kind::kInput, node.label + " input", method);
    entry.value = x;
    set_input_quant(graph, x, {}, false, [](const Node&) { return false; });
    slots.values[x] = function_of(entry);
  }
  read_codes(graph, linear);
}

void StudentQuantizers::add_attention(NodeId n, const QuantizerChoices& choices,
                                      QuantizerSlots& slots) {
  const auto put = [&](AttentionStage stage, const std::optional<MethodParams>& method) {
    if (!method) return;
    const std::string name = model_.graph.node(n).label + " " + stage_name(stage);
    Entry& entry = add(Entry::Kind::kAttention, name, *method);
    entry.point = {n, stage};
    slots.attention[entry.point] = function_of(entry);
  };
  put(AttentionStage::kQuery, choices.attention);
  put(AttentionStage::kKey, choices.attention);
  put(AttentionStage::kValue, choices.attention);
  put(AttentionStage::kMap, choices.map);
}

void StudentQuantizers::initialize(const std::function<void()>& forward) {
  const torch::NoGradGuard guard;
  initializing_ = true;
  try {
    forward();
  } catch (...) {
    initializing_ = false;
    throw;
  }
  initializing_ = false;
  for (const auto& entry : places_)
    require(entry->initialized, ErrorCode::kVerification, entry->name,
            ": no value came by in the first pass");
}

void StudentQuantizers::begin_step(
    const QuantizerStep& step,
    const std::function<torch::Tensor(const std::string&)>& second_moment) {
  std::uint64_t place = 0;
  for (const auto& entry : places_) {
    Random random(step.seed ^ (static_cast<std::uint64_t>(step.step) << 20) ^ place++);
    TrainingStep told{.training = step.training, .seed = random.next(), .frozen = step.frozen};
    // A part of a fused tensor has no moment of its own.
    const bool is_whole =
        entry->param != kNoParam && model_.graph.param(entry->param).packing.parts == 1;
    if (is_whole) told.second_moment = second_moment(entry->tensor);
    entry->quantizer->begin_step(told);
  }
}

std::vector<NamedTensor> StudentQuantizers::parameters() const {
  std::vector<NamedTensor> out;
  for (const auto& entry : places_)
    for (const NamedTensor& t : entry->quantizer->parameters())
      out.push_back({entry->name + "." + t.name, t.value});
  return out;
}

std::vector<NamedTensor> StudentQuantizers::state() const {
  std::vector<NamedTensor> out;
  for (const auto& entry : places_)
    for (const NamedTensor& t : entry->quantizer->state())
      out.push_back({entry->name + "." + t.name, t.value});
  return out;
}

}  // namespace quell::train
