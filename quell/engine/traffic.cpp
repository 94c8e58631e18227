#include "quell/engine/traffic.h"

#include "quell/engine/executor.h"
#include "quell/engine/fuse.h"
#include "quell/engine/lowered_op.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

constexpr std::int64_t kFloat = sizeof(float);

/// As kernels pack them.
std::int64_t codes_a_byte(const QuantSpec& spec) {
  if (spec.num_bits <= 2) return 4;
  return spec.num_bits <= 4 ? 2 : 1;
}

/// Goes through the lowered graph as the interpreter does, keeping in which forms values are there.
class Tracer {
 public:
  Tracer(const Model& model, ExecContext& ctx)
      : model_(model),
        integer_(model, ctx.isa, true),
        graph_(integer_.fuse()),
        forms_(static_cast<std::size_t>(graph_.num_values())) {}

  std::vector<OperatorTraffic> run() {
    std::vector<OperatorTraffic> out;
    for (const NodeId n : graph_.order()) {
      const Node& node = graph_.node(n);
      if (node.op->view) continue;

      OperatorTraffic traffic;
      traffic.name = node.label;
      const LoweredOp* lowered = node.op->lowered;
      traffic.what =
          lowered ? lowered->describe(node) : std::string(node.op->name) + ", f32 to f32";
      read_operands(node, traffic);
      traffic.weights = weight_bytes(n);
      write(node, traffic);
      traffic.ideal = ideal_of(node);
      out.push_back(std::move(traffic));
    }
    return out;
  }

 private:
  struct Forms {
    bool f32 = false;
    bool codes = false;
  };
  Forms& forms(ValueId v) { return forms_[static_cast<std::size_t>(concrete(graph_, v))]; }

  // Sizes for one image.
  std::int64_t rows(ValueId v) const {
    const RowSpace& rows = graph_.value(v).type.rows;
    if (rows.kind == RowSpace::Kind::kImage) return rows.height * rows.width;
    return rows.kind == RowSpace::Kind::kSequences ? 1 : model_.spec.max_position_embeddings;
  }
  std::int64_t values(ValueId v) const { return rows(v) * graph_.value(v).type.columns; }
  std::int64_t f32_bytes(ValueId v) const { return kFloat * values(v); }
  std::int64_t code_bytes(ValueId v) const {
    const std::int64_t stride = code_stride(graph_.value(concrete(graph_, v)).type);
    const std::int64_t of_products = kernels::code_stride(graph_.value(v).type.columns);
    return rows(v) * (stride > 0 ? stride : of_products);
  }
  bool is_pixels(ValueId v) const { return graph_.value(v).input == InputKind::kPixels; }
  std::int64_t pixel_bytes(const Node& node) const {
    const auto* lowered =
        node.op->lowered ? &node.attributes.get<ImageToCodesAttributes>() : nullptr;
    const ImageAttributes& image =
        lowered ? lowered->image : node.attributes.get<ImageAttributes>();
    return kFloat * image.channels * image.size.pixels();
  }

  void read_operands(const Node& node, OperatorTraffic& traffic) {
    for (std::size_t i = 0; i < node.in.size(); ++i) {
      const ValueId v = node.in[i];
      if (v == kNoValue || graph_.is_weight(v)) continue;

      if (is_pixels(v))
        traffic.operands += pixel_bytes(node);
      else if (node.is(op_integer_product) && i == 1)
        traffic.residual += read_residual(v, traffic);
      else if (node.op->lowered)
        traffic.operands += read_codes(v, traffic);
      else
        traffic.operands += read_f32(v, node.op->product, traffic);
    }
  }

  /// As Executor::codes: made when first asked for.
  std::int64_t read_codes(ValueId v, OperatorTraffic& traffic) {
    Forms& there = forms(v);
    if (!there.codes) traffic.converted += f32_bytes(v) + code_bytes(v);
    there.codes = true;
    return code_bytes(v);
  }

  /// As Executor::residual.
  std::int64_t read_residual(ValueId v, OperatorTraffic& traffic) {
    const ValueId below = graph_.is_from(v, op_restore) ? graph_.producer_of(v).in[0] : v;
    const ActivationQuant* quant =
        graph_.is_from(below, op_quantize) ? input_quant_of(graph_, below) : nullptr;
    if (!quant) return f32_bytes(v);
    return is_static_per_tensor(*quant) ? read_codes(v, traffic) : read_f32(v, false, traffic);
  }

  /// As Executor::operand: views are computed where they are read, on a copy. Operators of products
  /// read the value itself.
  std::int64_t read_f32(ValueId v, bool by_product, OperatorTraffic& traffic) {
    const bool is_view = concrete(graph_, v) != v;
    const Forms& there = forms(v);
    if (there.f32 && (by_product || !is_view)) return f32_bytes(v);

    traffic.converted += (there.f32 ? f32_bytes(v) : code_bytes(v)) + f32_bytes(v);
    for (ValueId at = v; at != concrete(graph_, v); at = graph_.producer_of(at).in[0])
      if (there.f32 || !graph_.is_from(at, op_quantize)) traffic.converted += 2 * f32_bytes(v);
    return f32_bytes(v);
  }

  std::int64_t weight_bytes(NodeId n) const {
    const Node& node = graph_.node(n);
    if (node.is(op_integer_product)) {
      const auto& product = *node.attributes.get<IntegerProductAttributes>().product;
      return static_cast<std::int64_t>(product.packed_bytes());
    }
    return kFloat * weight_values(node);
  }
  /// Of the node's parameter, vectors too.
  std::int64_t weight_values(const Node& node) const {
    if (node.param == kNoParam) return 0;
    const Param& p = model_.param(node.param);
    std::int64_t count = model_.weight_of(p).numel();
    for (const Tensor& vector : p.vectors) count += vector.numel();
    return count;
  }

  void write(const Node& node, OperatorTraffic& traffic) {
    forms(node.out) = written_forms(node);
    if (forms(node.out).f32) traffic.output += f32_bytes(node.out);
    if (forms(node.out).codes) traffic.output += code_bytes(node.out);
  }
  static Forms written_forms(const Node& node) {
    if (node.is(op_image_to_codes) || node.is(op_max_of_codes)) return {.codes = true};
    const bool is_product = node.is(op_integer_product);
    if (is_product && node.attributes.get<IntegerProductAttributes>().output)
      return {.codes = true};
    return {.f32 = true};
  }

  std::int64_t ideal_of(const Node& node) const {
    std::int64_t bytes = graph_.is_output(node.out) ? f32_bytes(node.out) : values(node.out);
    for (const ValueId v : node.in) {
      if (v == kNoValue || graph_.is_weight(v)) continue;
      bytes += is_pixels(v) ? pixel_bytes(node) : values(v);
    }

    const Param* p = node.param == kNoParam ? nullptr : &model_.param(node.param);
    const std::int64_t in_a_byte = p && p->quantized ? codes_a_byte(p->quantized->spec) : 1;
    return bytes + (weight_values(node) + in_a_byte - 1) / in_a_byte;
  }

  const Model& model_;
  LoweredOps integer_;
  Graph graph_;
  std::vector<Forms> forms_;  ///< by value
};

}  // namespace

std::vector<OperatorTraffic> describe_traffic(const Model& model, ExecContext& ctx) {
  if (!is_convolutional(model.graph)) return {};
  return Tracer(model, ctx).run();
}

}  // namespace quell
