#include "quell/engine/fuse.h"

#include <set>

#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/kernels/rows/rows.h"
#include "quell/quant/integer_attention.h"

namespace quell {
namespace {

bool same_quant(const ActivationQuant& a, const ActivationQuant& b) {
  const bool same_groups = a.groups && b.groups ? *a.groups == *b.groups : a.groups == b.groups;
  return a.spec == b.spec && (a.spec.dynamic || (a.qparams == b.qparams && same_groups));
}

/// linear [+ activation] [* up] [+ residual], from codes to codes or f32.
class FusedLinear final : public NodeOp {
 public:
  std::shared_ptr<const IntegerLinear> linear;
  ValueId in = kNoValue, residual = kNoValue, out = kNoValue;
  kernels::Activation activation = kernels::Activation::kNone;
  const ActivationQuant* output = nullptr;  ///< null: f32
  const ChannelAffine* affine = nullptr;    ///< explicit, of the codes
  std::string what = "linear";

  void run(Executor& executor, ExecContext& ctx) const override {
    const QuantizedRows& x = executor.codes(in, linear->input(), linear->needs_sums());
    LinearOutput o;
    Tensor storage;
    o.activation = activation;
    if (residual != kNoValue) o.residual = executor.residual(residual, storage);
    if (output) {
      QuantizedRows rows = make_quantized_rows(x.rows, linear->columns(), *output);
      o.codes = &rows;
      if (affine) {
        o.code_scale = affine->scale.f32().data();
        if (affine->shift.defined()) o.code_shift = affine->shift.f32().data();
      }
      linear->forward_rows(x, o, ctx);
      executor.set_codes(out, std::move(rows));
    } else {
      Tensor y = Tensor::uninitialized(DType::kF32, {x.rows, linear->columns()});
      o.f32 = y.f32().data();
      linear->forward_rows(x, o, ctx);
      executor.set(out, std::move(y));
    }
  }
  std::string describe() const override {
    return what + (output ? ", writes codes" : ", writes f32");
  }
};

/// A norm that writes codes, and f32 where something reads that.
class FusedNorm final : public NodeOp {
 public:
  FusedNorm(const Model& model, int node, bool f32, const ActivationQuant& output)
      : model_(model), node_(node), f32_(f32), output_(output) {}

  void run(Executor& executor, ExecContext& ctx) const override {
    const Node& n = model_.graph.node(node_);
    const Param& p = model_.param_of(node_);
    const NormAttributes& norm = norm_of(n);
    Tensor storage;
    const TensorView x = executor.operand(n.in[0], storage);
    Tensor y = f32_ ? Tensor::uninitialized(DType::kF32, x.shape()) : Tensor();
    QuantizedRows codes = make_quantized_rows(x.rows(), x.cols(), output_);
    const kernels::CodeArgs args = code_args(output_.spec, output_.qparams);
    const kernels::RowKernels& rows = kernels::row_kernels(ctx.isa);
    const float *weight = p.weight.defined() ? p.weight.f32().data() : nullptr,
                *bias = p.bias.defined() ? p.bias.f32().data() : nullptr;
    ctx.pool.parallel_for(x.rows(), 32, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        rows.normalize(norm.kind == NormKind::kLayerNorm, x.row(i), weight, bias, norm.eps,
                       x.cols(), {f32_ ? y.row(i) : nullptr, codes.row(i), args});
    });
    if (f32_) executor.set(n.out, std::move(y));
    executor.set_codes(n.out, std::move(codes));
  }
  std::string describe() const override {
    return f32_ ? "norm, writes codes and f32" : "norm, writes codes";
  }

 private:
  const Model& model_;
  int node_;
  bool f32_;
  const ActivationQuant& output_;
};

/// Reads off the graph what can be fused.
class Fuser {
 public:
  Fuser(const Model& model, const LoweredOps& lowered,
        std::vector<std::shared_ptr<const IntegerLinear>> linears, Isa isa)
      : model_(model),
        graph_(model.graph),
        lowered_(lowered),
        linears_(std::move(linears)),
        isa_(isa) {
    table_.ops.resize(linears_.size());
    table_.covered.resize(linears_.size());
    visible_.resize(static_cast<std::size_t>(graph_.num_values()));
    for (const auto& [name, v] : graph_.outputs) see(v);
    for (const StackInfo& stack : graph_.stacks)
      for (const ValueId v : stack.hidden_states) see(v);
  }

  FusionTable run() {
    // First what is one operator, then what passes between operators.
    for (NodeId n = 0; n < graph_.num_nodes(); ++n)
      if (!table_.covered[static_cast<std::size_t>(n)] && linears_[static_cast<std::size_t>(n)])
        fuse_linear(n);
    for (FusedLinear* op : fused_linears_) {
      const ValueId m = migrated(graph_, op->out);
      op->output = codes_only(m);
      if (op->output && m != op->out) {
        op->affine = explicit_affine_of(graph_, m);
        op->out = m;
        cover(graph_.producer(m));
      }
    }
    for (NodeId n = 0; n < graph_.num_nodes(); ++n) {
      if (node(n).is(op_norm)) fuse_norm(n);
      if (node(n).is(op_attention)) fuse_attention(n);
    }
    return std::move(table_);
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

  void cover(int n) { table_.covered[static_cast<std::size_t>(n)] = true; }

  void fuse_linear(int n) {
    auto op = std::make_unique<FusedLinear>();
    op->linear = linears_[static_cast<std::size_t>(n)];
    op->in = concrete(graph_, node(n).in[0]);
    op->out = node(n).out;
    int reader = only_reader(op->out);
    if (reader >= 0 && node(reader).is(op_activation)) {
      op->activation = fused_activation(activation_of(node(reader)));
      op->out = node(reader).out;
      op->what += " + " + std::string(activation_name(activation_of(node(reader))));
      cover(reader);
      reader = only_reader(op->out);
      if (reader >= 0 && node(reader).is(op_multiply) && fuse_gate(n, reader, *op))
        reader = only_reader(op->out);
    }
    if (reader >= 0 && node(reader).is(op_add)) {
      const ValueId other = other_operand(reader, op->out);
      // The other side must be there already when this linear runs.
      if (other != op->out && is_before(other, n) && op->residual == kNoValue) {
        op->residual = other;
        op->out = node(reader).out;
        op->what += " + residual";
        residual_readers_.insert({concrete(graph_, other), reader});
        cover(reader);
      }
    }
    fused_linears_.push_back(op.get());
    table_.ops[static_cast<std::size_t>(n)] = std::move(op);
  }

  /// act(gate) * up, where both linears read the same codes.
  bool fuse_gate(int gate, int multiply, FusedLinear& op) {
    const ValueId up_value = other_operand(multiply, op.out);
    const int up = graph_.producer(up_value);
    const bool fits = node(up).is(op_linear) && up != gate &&
                      linears_[static_cast<std::size_t>(up)] &&
                      node(up).in[0] == node(gate).in[0] && only_reader(up_value) == multiply &&
                      !table_.ops[static_cast<std::size_t>(up)];
    const Param &g = model_.param_of(gate), &u = model_.param_of(up);
    if (!fits || g.quantized->codes.shape() != u.quantized->codes.shape() ||
        !(g.quantized->spec == u.quantized->spec) || g.quantized->codes.rows() % 16 != 0)
      return false;
    op.linear = IntegerLinear::gated(*g.quantized, g.bias, *u.quantized, u.bias, op.linear->input(),
                                     {.isa = isa_});
    op.out = node(multiply).out;
    op.what += " * up";
    cover(multiply);
    cover(up);
    return true;
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
      } else if (n.is(op_attention) &&
                 make_integer_attention(model_, reader.node, false, nullptr)) {
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
      if (i < 3 && reads_codes_directly(model_, reader.node, static_cast<int>(i)))
        take(**points[i]);
      else
        f32 = true;
    }
    return f32;
  }

  void fuse_attention(NodeId n) {
    const ValueId m = quell::migrated(graph_, node(n).out);
    const ActivationQuant* output = codes_only(m);
    table_.ops[static_cast<std::size_t>(n)] = make_integer_attention(model_, n, false, output);
    const bool folded = table_.ops[static_cast<std::size_t>(n)] && output && m != node(n).out;
    if (folded) cover(graph_.producer(m));
  }

  void fuse_norm(int n) {
    const ActivationQuant* quant = nullptr;
    const bool f32 = read(node(n).out, &quant);
    if (!quant || affine_node(graph_, node(n).out) != kNoNode) return;
    table_.ops[static_cast<std::size_t>(n)] = std::make_unique<FusedNorm>(model_, n, f32, *quant);
  }

  const Model& model_;
  const Graph& graph_;
  const LoweredOps& lowered_;
  std::vector<std::shared_ptr<const IntegerLinear>> linears_;
  Isa isa_;
  FusionTable table_;
  std::vector<FusedLinear*> fused_linears_;
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

FusionTable LoweredOps::fuse() const { return Fuser(model_, *this, linears_, isa_).run(); }

}  // namespace quell
