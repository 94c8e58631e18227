#include "quell/engine/fuse.h"

#include <set>

#include "quell/base/error.h"
#include "quell/engine/lowered_op.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

/// Keeps the order of values, and moves those outside of an interval to its ends.
bool is_clamp(ActivationKind kind) {
  return kind == ActivationKind::kRelu || kind == ActivationKind::kRelu6;
}

bool same_quant(const ActivationQuant& a, const ActivationQuant& b) {
  const bool same_groups = a.groups && b.groups ? *a.groups == *b.groups : a.groups == b.groups;
  return a.spec == b.spec && (a.spec.dynamic || (a.qparams == b.qparams && same_groups));
}

/// A linear or convolution and what it takes along, until its op can be said.
struct FusedProduct {
  NodeId node = kNoNode;
  ValueId residual = kNoValue;
  ValueId out = kNoValue;
  IntegerProductAttributes attributes = {};
};

/// Reads off the graph what can be fused, then rewrites a copy.
class Fuser {
 public:
  Fuser(const Model& model, std::vector<std::shared_ptr<const IntegerProduct>> products, Isa isa)
      : model_(model), graph_(model.graph), products_(std::move(products)), isa_(isa) {
    covered_.resize(products_.size());
    is_fused_.resize(products_.size());
    visible_.resize(static_cast<std::size_t>(graph_.num_values()));
    for (const auto& [name, v] : graph_.outputs) see(v);
    for (const StackInfo& stack : graph_.stacks)
      for (const ValueId v : stack.hidden_states) see(v);
  }

  Graph run() {
    for (NodeId n = 0; n < graph_.num_nodes(); ++n)
      if (std::optional<Node> mean = mean_by(n)) means_.emplace(n, std::move(*mean));
    // First what is one operator, then what passes between operators.
    for (NodeId n = 0; n < graph_.num_nodes(); ++n)
      if (!covered_[static_cast<std::size_t>(n)] && products_[static_cast<std::size_t>(n)])
        fuse_product(n);
    for (NodeId n = 0; n < graph_.num_nodes(); ++n) find_max_pool(n);
    for (FusedProduct& fused : fused_products_) write_codes(fused);
    for (NodeId n = 0; n < graph_.num_nodes(); ++n) {
      if (node(n).is(op_norm)) fuse_norm(n);
      if (node(n).is(op_attention)) fuse_attention(n);
      if (node(n).is(op_image)) fuse_image(n);
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

  void fuse_product(NodeId n) {
    FusedProduct fused{.node = n, .out = node(n).out};
    IntegerProductAttributes& op = fused.attributes;
    op.product = products_[static_cast<std::size_t>(n)];
    op.what = node(n).op->name;

    NodeId reader = only_reader(fused.out);
    if (reader != kNoNode && is_fusable_activation(reader)) {
      op.activation = activation_of(node(reader));
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
    fused_products_.push_back(std::move(fused));
  }

  /// A ReLU or ReLU6 behind the residual, where it leaves codes: bounds of these.
  void fuse_clamp(FusedProduct& fused) {
    const NodeId reader = fused.residual == kNoValue ? kNoNode : only_reader(fused.out);
    if (reader == kNoNode || !node(reader).is(op_activation)) return;
    const ActivationKind kind = activation_of(node(reader));
    const ValueId clamped = node(reader).out;
    const bool is_divided = migrated(graph_, clamped) != clamped;
    if (!is_clamp(kind) || is_divided || !codes_only(clamped)) return;

    fused.attributes.clamp = kind;
    fused.attributes.what += " + " + std::string(activation_name(kind));
    fused.out = clamped;
    cover(reader);
  }

  /// act(gate) * up, where both linears read the same codes.
  bool fuse_gate(NodeId multiply, FusedProduct& fused) {
    const NodeId gate = fused.node;
    const ValueId up_value = other_operand(multiply, fused.out);
    const NodeId up = graph_.producer(up_value);
    const bool fits = up != kNoNode && node(up).is(op_linear) && node(gate).is(op_linear) &&
                      up != gate && products_[static_cast<std::size_t>(up)] &&
                      node(up).in[0] == node(gate).in[0] && only_reader(up_value) == multiply &&
                      !is_fused_[static_cast<std::size_t>(up)];
    if (!fits) return false;
    const Param& g = model_.param_of(gate);
    const Param& u = model_.param_of(up);
    const bool side_by_side = g.quantized->codes.shape() == u.quantized->codes.shape() &&
                              g.quantized->spec == u.quantized->spec &&
                              g.quantized->codes.rows() % 16 == 0;
    if (!side_by_side) return false;

    IntegerProductAttributes& op = fused.attributes;
    op.product = IntegerLinear::gated(*g.quantized, g.bias, *u.quantized, u.bias,
                                      op.product->input(), {.isa = isa_});
    op.what += " * up";
    fused.out = node(multiply).out;
    op.is_gated = true;
    cover(multiply);
    cover(up);
    return true;
  }

  /// Codes where all readers of the result take them; what divides it is taken along.
  void write_codes(FusedProduct& fused) {
    fuse_clamp(fused);
    const ValueId m = migrated(graph_, fused.out);
    const ActivationQuant* output = codes_only(m);
    if (!output) return;
    fused.attributes.output = *output;
    if (m == fused.out) {
      // Between the sums and the codes alone, such an activation is a bound of the codes too.
      IntegerProductAttributes& op = fused.attributes;
      const bool alone = fused.residual == kNoValue && op.activation && is_clamp(*op.activation);
      if (alone && !op.is_gated) std::swap(op.clamp, op.activation);
      return;
    }
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
      if (n.op->product && products_[static_cast<std::size_t>(reader.node)] && has_static) {
        take(*input);
      } else if (n.is(op_add) && has_static && is_quantized(reader.as) &&
                 residual_readers_.contains({v, reader.node})) {
        take(*input);
      } else if (means_.contains(reader.node) && has_static) {
        take(*input);
      } else if (const auto pool = max_pools_.find(reader.node); pool != max_pools_.end()) {
        take(pool->second);
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

  std::optional<Node> mean_by(NodeId n) const {
    if (graph_.is_removed(n)) return std::nullopt;
    return mean_of_codes_node(graph_, node(n));
  }

  /// The largest of some codes is the code of the largest value: a pool whose readers take codes
  /// takes these itself.
  void find_max_pool(NodeId n) {
    const bool is_max = node(n).is(op_pool) && !graph_.is_removed(n) &&
                        node(n).attributes.get<PoolAttributes>().kind == PoolKind::kMax;
    // Codes are those of the value itself: what a restore or quantizer in between makes of it is
    // f32.
    const ValueId in = node(n).operand(0);
    if (!is_max || concrete(graph_, in) != in || only_reader(in) != n) return;
    if (migrated(graph_, node(n).out) != node(n).out) return;
    if (const ActivationQuant* output = codes_only(node(n).out)) max_pools_.emplace(n, *output);
  }

  void fuse_image(NodeId n) {
    const ActivationQuant* output = codes_only(node(n).out);
    if (!output || migrated(graph_, node(n).out) != node(n).out) return;
    Node by = node(n);
    by.op = &op_image_to_codes;
    by.attributes =
        Attributes::of(ImageToCodesAttributes{node(n).attributes.get<ImageAttributes>(), *output});
    others_.emplace_back(n, std::move(by));
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

    for (const FusedProduct& fused : fused_products_) {
      Node by = node(fused.node);
      by.op = &op_integer_product;
      by.attributes = Attributes::of(fused.attributes);
      by.in = {concrete(graph_, by.in[0])};
      if (fused.residual != kNoValue) by.in.push_back(fused.residual);
      by.out = fused.out;
      out.replace(fused.node, std::move(by));
    }
    for (const auto& [n, by] : others_) out.replace(n, by);
    for (const auto& [n, by] : means_) out.replace(n, by);
    for (const auto& [n, quant] : max_pools_) {
      Node by = node(n);
      by.op = &op_max_of_codes;
      by.attributes =
          Attributes::of(MaxOfCodesAttributes{node(n).attributes.get<PoolAttributes>(), quant});
      out.replace(n, std::move(by));
    }
    return out;
  }

  const Model& model_;
  const Graph& graph_;
  std::vector<std::shared_ptr<const IntegerProduct>> products_;
  Isa isa_;
  // By node: computed by another's op; a linear that has one of its own.
  std::vector<bool> covered_, is_fused_;
  std::vector<FusedProduct> fused_products_;
  std::vector<std::pair<NodeId, Node>> others_;
  std::map<NodeId, Node> means_;                 ///< what computes them on codes
  std::map<NodeId, ActivationQuant> max_pools_;  ///< with the quantizer of their codes
  std::set<std::pair<ValueId, int>>
      residual_readers_;  ///< (value, add) pairs that a linear's epilogue computes
  enum class Sight { kNone, kCodes, kF32 };
  std::vector<Sight> visible_;  ///< as outputs and hidden states
};

}  // namespace

LoweredOps::LoweredOps(const Model& model, Isa isa, bool tolerant)
    : model_(model), isa_(isa), products_(static_cast<std::size_t>(model.graph.num_nodes())) {
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n)
    if (model.graph.node(n).op->product) products_[static_cast<std::size_t>(n)] = make(n, tolerant);
}

std::shared_ptr<const IntegerProduct> LoweredOps::make(int node, bool tolerant) {
  const int param = model_.graph.node(node).param;
  const Param& p = model_.param_of(node);
  if (!p.quantized || reads_constant(model_, node)) return nullptr;
  const ActivationQuant* input = input_quant_of(model_.graph, model_.graph.node(node).in[0]);
  require(input != nullptr, ErrorCode::kInvalidInput, model_.node_name(node),
          ": quantized weights without an input quantizer");
  auto& made = by_param_[param];
  // A convolution is made for its image too.
  for (const auto& linear : made)
    if (model_.graph.node(node).is(op_linear) && same_quant(linear->input(), *input)) return linear;
  try {
    return made.emplace_back(make_integer_product(*p.quantized, p.bias, *input,
                                                  conv_geometry(model_.graph, node),
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

Graph LoweredOps::fuse() const { return Fuser(model_, products_, isa_).run(); }

}  // namespace quell
