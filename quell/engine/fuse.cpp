#include "quell/engine/fuse.h"

#include <set>

#include "quell/base/error.h"
#include "quell/engine/lowered_op.h"
#include "quell/graph/forms.h"

namespace quell {
namespace {

bool same_quant(const ActivationQuant& a, const ActivationQuant& b) {
  const bool same_groups = a.groups && b.groups ? *a.groups == *b.groups : a.groups == b.groups;
  return a.spec == b.spec && (a.spec.dynamic || (a.qparams == b.qparams && same_groups));
}

/// A linear and what it takes along, until its op can be said.
struct FusedLinear {
  NodeId node = kNoNode;
  ValueId residual = kNoValue;
  ValueId out = kNoValue;
  IntegerLinearAttributes attributes = {};
};

/// Reads off the graph what can be fused, then rewrites a copy.
class Fuser {
 public:
  Fuser(const Model& model, std::vector<std::shared_ptr<const IntegerLinear>> linears, Isa isa)
      : model_(model), graph_(model.graph), linears_(std::move(linears)), isa_(isa) {
    covered_.resize(linears_.size());
    is_fused_.resize(linears_.size());
    visible_.resize(static_cast<std::size_t>(graph_.num_values()));
    for (const auto& [name, v] : graph_.outputs) see(v);
    for (const StackInfo& stack : graph_.stacks)
      for (const ValueId v : stack.hidden_states) see(v);
  }

  Graph run() {
    // First what is one operator, then what passes between operators.
    for (NodeId n = 0; n < graph_.num_nodes(); ++n)
      if (!covered_[static_cast<std::size_t>(n)] && linears_[static_cast<std::size_t>(n)])
        fuse_linear(n);
    for (FusedLinear& fused : fused_linears_) write_codes(fused);
    for (NodeId n = 0; n < graph_.num_nodes(); ++n) {
      if (node(n).is(op_norm)) fuse_norm(n);
      if (node(n).is(op_attention)) fuse_attention(n);
    }
    return rewritten();
  }

 private:
  const Node& node(int n) const { return graph_.node(n); }
  const std::vector<NodeId>& uses(ValueId v) const { return graph_.uses(v); }
  bool is_visible(ValueId v) const { return visible_[static_cast<std::size_t>(v)] != Sight::kNone; }

  /// A caller sees `v`, or what it is a view of.
  void see(ValueId v) {
    Sight& sight = visible_[static_cast<std::size_t>(concrete(graph_, v))];
    const Sight now = is_quantized(v) ? Sight::kCodes : Sight::kF32;
    if (sight != Sight::kF32) sight = now;
  }
  /// Whether there is a quantizer between `v` and what it is a view of.
  bool is_quantized(ValueId v) const {
    for (; graph_.producer(v) != kNoNode && graph_.producer_of(v).op->view;
         v = graph_.producer_of(v).in[0])
      if (graph_.is_from(v, op_quantize)) return true;
    return false;
  }

  struct Reader {
    NodeId node;
    ValueId as;  ///< the value itself, or a view of it
  };
  /// Through views.
  std::vector<Reader> readers(ValueId v) const {
    std::vector<Reader> out;
    for (const NodeId n : graph_.uses(v)) {
      if (!node(n).op->view) {
        out.push_back({n, v});
        continue;
      }
      const std::vector<Reader> behind = readers(node(n).out);
      out.insert(out.end(), behind.begin(), behind.end());
    }
    return out;
  }

  /// The only reader of a value that nothing else sees and that is read as it was computed; kNoNode
  /// where there is none.
  NodeId only_reader(ValueId v) const {
    if (is_visible(v) || uses(v).size() != 1) return kNoNode;
    const NodeId reader = uses(v).front();
    return node(reader).op->view || node(reader).is(op_affine) ? kNoNode : reader;
  }
  ValueId other_operand(int n, ValueId v) const {
    return node(n).in[0] == v ? node(n).in[1] : node(n).in[0];
  }

  bool is_before(ValueId v, NodeId n) const {
    const NodeId source = graph_.producer(concrete(graph_, v));
    return source == kNoNode || graph_.position(source) < graph_.position(n);
  }

  void cover(NodeId n) { covered_[static_cast<std::size_t>(n)] = true; }

  bool is_fusable_activation(NodeId n) const {
    return node(n).is(op_activation) && fused_activation(activation_of(node(n))).has_value();
  }

  void fuse_linear(NodeId n) {
    FusedLinear fused{.node = n, .out = node(n).out};
    IntegerLinearAttributes& op = fused.attributes;
    op.linear = linears_[static_cast<std::size_t>(n)];

    NodeId reader = only_reader(fused.out);
    if (reader != kNoNode && is_fusable_activation(reader)) {
      op.activation = *fused_activation(activation_of(node(reader)));
      op.what += " + " + std::string(activation_name(activation_of(node(reader))));
      fused.out = node(reader).out;
      cover(reader);
      reader = only_reader(fused.out);
      if (reader != kNoNode && node(reader).is(op_multiply) && fuse_gate(reader, fused))
        reader = only_reader(fused.out);
    }

    if (reader != kNoNode && node(reader).is(op_add)) {
      const ValueId other = other_operand(reader, fused.out);
      // The other side must be there already when this linear runs.
      if (other != fused.out && is_before(other, n)) {
        op.what += " + residual";
        fused.residual = other;
        fused.out = node(reader).out;
        residual_readers_.insert({concrete(graph_, other), reader});
        cover(reader);
      }
    }

    is_fused_[static_cast<std::size_t>(n)] = true;
    fused_linears_.push_back(std::move(fused));
  }

  /// act(gate) * up, where both linears read the same codes.
  bool fuse_gate(NodeId multiply, FusedLinear& fused) {
    const NodeId gate = fused.node;
    const ValueId up_value = other_operand(multiply, fused.out);
    const NodeId up = graph_.producer(up_value);
    const bool fits = up != kNoNode && node(up).is(op_linear) && up != gate &&
                      linears_[static_cast<std::size_t>(up)] &&
                      node(up).in[0] == node(gate).in[0] && only_reader(up_value) == multiply &&
                      !is_fused_[static_cast<std::size_t>(up)];
    if (!fits) return false;
    const Param& g = model_.param_of(gate);
    const Param& u = model_.param_of(up);
    const bool side_by_side = g.quantized->codes.shape() == u.quantized->codes.shape() &&
                              g.quantized->spec == u.quantized->spec &&
                              g.quantized->codes.rows() % 16 == 0;
    if (!side_by_side) return false;

    IntegerLinearAttributes& op = fused.attributes;
    op.linear = IntegerLinear::gated(*g.quantized, g.bias, *u.quantized, u.bias, op.linear->input(),
                                     {.isa = isa_});
    op.what += " * up";
    fused.out = node(multiply).out;
    cover(multiply);
    cover(up);
    return true;
  }

  /// Codes where all readers of the result take them; what divides it is taken along.
  void write_codes(FusedLinear& fused) {
    const ValueId m = migrated(graph_, fused.out);
    const ActivationQuant* output = codes_only(m);
    if (!output) return;
    fused.attributes.output = *output;
    if (m == fused.out) return;
    fused.attributes.affine = graph_.producer_of(m).attributes;
    fused.out = m;
    cover(graph_.producer(m));
  }

  /// The quantizer of `v` if all that reads it takes the same codes, else null.
  const ActivationQuant* codes_only(ValueId v) const {
    const ActivationQuant* quant = nullptr;
    return read(v, &quant) ? nullptr : quant;
  }

  /// Whether something reads `v` as f32; `quant` becomes the static quantizer of its other readers.
  bool read(ValueId v, const ActivationQuant** quant) const {
    bool f32 = false;
    const ActivationQuant* input = input_quant_of(graph_, v);
    const bool has_static = input && is_static_per_tensor(*input);
    const auto take = [&](const ActivationQuant& q) {
      if (*quant && !same_quant(**quant, q))
        f32 = true;
      else
        *quant = &q;
    };

    const Sight sight = visible_[static_cast<std::size_t>(v)];
    if (sight == Sight::kCodes && has_static)
      take(*input);
    else if (sight != Sight::kNone)
      f32 = true;
    for (const Reader& reader : readers(v)) {
      const Node& n = node(reader.node);
      if (n.is(op_linear) && linears_[static_cast<std::size_t>(reader.node)] && has_static) {
        take(*input);
      } else if (n.is(op_add) && has_static && is_quantized(reader.as) &&
                 residual_readers_.contains({v, reader.node})) {
        take(*input);
      } else if (n.is(op_attention) && has_integer_attention(n)) {
        f32 |= attention_reads_f32(reader, take);
      } else {
        f32 = true;
      }
    }
    return f32;
  }

  template <typename Take>
  bool attention_reads_f32(const Reader& reader, const Take& take) const {
    const Node& n = node(reader.node);
    const auto points = attention_quant_of(n)->points();
    bool f32 = false;
    for (std::size_t i = 0; i < n.in.size(); ++i) {
      if (n.in[i] != reader.as) continue;
      if (i < 3 && reads_codes_directly(attention_of(n), i))
        take(**points[i]);
      else
        f32 = true;
    }
    return f32;
  }

  void fuse_attention(NodeId n) {
    if (!has_integer_attention(node(n))) return;
    Node by = integer_attention_node(node(n), false);
    const ValueId m = migrated(graph_, by.out);
    if (const ActivationQuant* output = codes_only(m)) {
      auto attributes = by.attributes.get<IntegerAttentionAttributes>();
      attributes.output = *output;
      if (m != by.out) {
        attributes.affine = graph_.producer_of(m).attributes;
        by.out = m;
        cover(graph_.producer(m));
      }
      by.attributes = Attributes::of(std::move(attributes));
    }
    others_.emplace_back(n, std::move(by));
  }

  void fuse_norm(NodeId n) {
    const ActivationQuant* quant = nullptr;
    const bool f32 = read(node(n).out, &quant);
    if (!quant || affine_node(graph_, node(n).out) != kNoNode) return;
    Node by = node(n);
    by.op = &op_norm_to_codes;
    by.attributes = Attributes::of(NormToCodesAttributes{norm_of(node(n)), *quant, f32});
    others_.emplace_back(n, std::move(by));
  }

  Graph rewritten() const {
    Graph out = graph_;
    for (NodeId n = 0; n < graph_.num_nodes(); ++n)
      if (covered_[static_cast<std::size_t>(n)]) out.remove(n);

    for (const FusedLinear& fused : fused_linears_) {
      Node by = node(fused.node);
      by.op = &op_integer_linear;
      by.attributes = Attributes::of(fused.attributes);
      by.in = {concrete(graph_, by.in[0])};
      if (fused.residual != kNoValue) by.in.push_back(fused.residual);
      by.out = fused.out;
      out.replace(fused.node, std::move(by));
    }
    for (const auto& [n, by] : others_) out.replace(n, by);
    return out;
  }

  const Model& model_;
  const Graph& graph_;
  std::vector<std::shared_ptr<const IntegerLinear>> linears_;
  Isa isa_;
  // By node: computed by another's op; a linear that has one of its own.
  std::vector<bool> covered_, is_fused_;
  std::vector<FusedLinear> fused_linears_;
  std::vector<std::pair<NodeId, Node>> others_;
  std::set<std::pair<ValueId, int>>
      residual_readers_;  ///< (value, add) pairs that a linear's epilogue computes
  enum class Sight { kNone, kCodes, kF32 };
  std::vector<Sight> visible_;  ///< as outputs and hidden states
};

}  // namespace

LoweredOps::LoweredOps(const Model& model, Isa isa, bool tolerant)
    : model_(model), isa_(isa), linears_(static_cast<std::size_t>(model.graph.num_nodes())) {
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n)
    if (model.graph.node(n).is(op_linear))
      linears_[static_cast<std::size_t>(n)] = make(n, tolerant);
}

std::shared_ptr<const IntegerLinear> LoweredOps::make(int node, bool tolerant) {
  const int param = model_.graph.node(node).param;
  const Param& p = model_.param_of(node);
  if (!p.quantized || reads_constant(model_, node)) return nullptr;
  const ActivationQuant* input = input_quant_of(model_.graph, model_.graph.node(node).in[0]);
  require(input != nullptr, ErrorCode::kInvalidInput, model_.node_name(node),
          ": quantized weights without an input quantizer");
  auto& made = by_param_[param];
  for (const auto& linear : made)
    if (same_quant(linear->input(), *input)) return linear;
  try {
    return made.emplace_back(std::make_shared<IntegerLinear>(*p.quantized, p.bias, *input,
                                                             IntegerLinearOptions{.isa = isa_}));
  } catch (const Error& e) {
    if (!tolerant) throw Error(e.code(), model_.node_name(node) + ": " + e.what());
    refusals_[node] = e.what();
    return nullptr;
  }
}

std::string LoweredOps::why_not(int node) const {
  if (const auto it = refusals_.find(node); it != refusals_.end()) return it->second;
  return model_.param_of(node).quantized ? "its input depends on weights alone" : "not quantized";
}

Graph LoweredOps::fuse() const { return Fuser(model_, linears_, isa_).run(); }

}  // namespace quell
