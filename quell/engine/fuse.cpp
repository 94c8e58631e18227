#include "quell/engine/fuse.h"

#include <set>

#include "quell/base/error.h"
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
      executor.set_output(out, std::move(y));
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
    if (f32_) executor.set_output(n.out, std::move(y));
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
    for (const auto& [name, v] : graph_.outputs) visible_[static_cast<std::size_t>(v)] = true;
    for (const StackInfo& stack : graph_.stacks)
      for (const ValueId v : stack.hidden_states) visible_[static_cast<std::size_t>(v)] = true;
  }

  FusionTable run() {
    // First what is one operator, then what passes between operators.
    for (NodeId n = 0; n < graph_.num_nodes(); ++n)
      if (!table_.covered[static_cast<std::size_t>(n)] && linears_[static_cast<std::size_t>(n)])
        fuse_linear(n);
    for (FusedLinear* op : fused_linears_) {
      op->output = codes_only(op->out);
      if (const auto it = model_.explicit_affine.find(op->out); it != model_.explicit_affine.end())
        op->affine = &it->second;
    }
    for (NodeId n = 0; n < graph_.num_nodes(); ++n) {
      if (node(n).is(op_norm)) fuse_norm(n);
      if (node(n).is(op_attention))
        table_.ops[static_cast<std::size_t>(n)] =
            make_integer_attention(model_, n, false, codes_only(node(n).out));
    }
    return std::move(table_);
  }

 private:
  const Node& node(int n) const { return graph_.node(n); }
  const std::vector<NodeId>& uses(ValueId v) const { return graph_.uses(v); }
  bool migrated(ValueId v) const {
    return model_.restore.contains(v) || model_.explicit_affine.contains(v);
  }

  /// The only reader of a value that nothing else sees and that is read as it was computed; -1
  /// where there is none.
  int only_reader(ValueId v) const {
    const bool requantized = model_.residual_after_quant && model_.input_quant.contains(v);
    if (visible_[static_cast<std::size_t>(v)] || migrated(v) || requantized || uses(v).size() != 1)
      return -1;
    return uses(v).front();
  }
  ValueId other_operand(int n, ValueId v) const {
    return node(n).in[0] == v ? node(n).in[1] : node(n).in[0];
  }

  void cover(int n) { table_.covered[static_cast<std::size_t>(n)] = true; }

  void fuse_linear(int n) {
    auto op = std::make_unique<FusedLinear>();
    op->linear = linears_[static_cast<std::size_t>(n)];
    op->in = node(n).in[0];
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
      if (other != op->out && graph_.producer(other) < n && op->residual == kNoValue) {
        op->residual = other;
        op->out = node(reader).out;
        op->what += " + residual";
        residual_readers_.insert({other, reader});
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
    const auto input = model_.input_quant.find(v);
    const bool has_static =
        input != model_.input_quant.end() && is_static_per_tensor(input->second);
    const bool residual_codes = model_.residual_after_quant && has_static;
    const auto take = [&](const ActivationQuant& q) {
      if (*quant && !same_quant(**quant, q))
        f32 = true;
      else
        *quant = &q;
    };
    if (visible_[static_cast<std::size_t>(v)])
      residual_codes ? take(input->second) : void(f32 = true);
    for (const int u : uses(v)) {
      if (node(u).is(op_linear) && linears_[static_cast<std::size_t>(u)] && has_static) {
        take(input->second);
      } else if (node(u).is(op_add) && residual_codes && residual_readers_.contains({v, u})) {
        take(input->second);
      } else if (node(u).is(op_attention) && make_integer_attention(model_, u, false, nullptr)) {
        const auto points = attention_quant_of(node(u))->points();
        for (std::size_t i = 0; i < 3; ++i)
          if (node(u).in[i] == v)
            reads_codes_directly(model_, u, static_cast<int>(i)) ? take(**points[i])
                                                                 : void(f32 = true);
        for (std::size_t i = 3; i < node(u).in.size(); ++i) f32 |= node(u).in[i] == v;
      } else {
        f32 = true;
      }
    }
    return f32;
  }

  void fuse_norm(int n) {
    const ActivationQuant* quant = nullptr;
    const bool f32 = read(node(n).out, &quant);
    if (!quant || model_.explicit_affine.contains(node(n).out)) return;
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
      residual_readers_;       ///< (value, add) pairs that a linear's epilogue computes
  std::vector<bool> visible_;  ///< outputs and hidden states
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
  const auto input = model_.input_quant.find(model_.graph.node(node).in[0]);
  require(input != model_.input_quant.end(), ErrorCode::kInvalidInput, model_.node_name(node),
          ": quantized weights without an input quantizer");
  auto& made = by_param_[param];
  for (const auto& linear : made)
    if (same_quant(linear->input(), input->second)) return linear;
  try {
    return made.emplace_back(std::make_shared<IntegerLinear>(*p.quantized, p.bias, input->second,
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
