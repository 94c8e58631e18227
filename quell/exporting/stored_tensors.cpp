#include "quell/exporting/stored_tensors.h"

#include <algorithm>
#include <numeric>

#include "quell/base/error.h"

namespace quell {

Checkpoint original_of(const Model& model) {
  const bool has_weights =
      model.dir.has("config.json") &&
      (model.dir.has("model.safetensors") || model.dir.has("model.safetensors.index.json"));
  return has_weights ? Checkpoint::open(model.dir) : Checkpoint();
}

Parts parts_of(const Model& model, const Param& p) {
  Parts parts;
  for (const Param& other : model.params)
    if (p.packing.parts == 1 ? &other == &p : other.weight_name == p.weight_name)
      parts.push_back(&other);
  return parts;
}

namespace {

Tensor stored_kernel(const Param& p, const Shape& shape) {
  Tensor out = Tensor::f32(shape);
  for (std::int64_t r = 0; r < p.weight.rows(); ++r)
    for (std::int64_t c = 0; c < p.weight.cols(); ++c) {
      const std::int64_t at = packed_index(p.packing, r, c, p.weight.shape());
      out.f32()[static_cast<std::size_t>(at)] = p.weight.row(r)[c];
    }
  p.weight.drop_pages();
  return out;
}

Tensor stored_weight(const Parts& parts, const Shape& shape) {
  const Param& first = *parts.front();
  if (first.packing.taps() > 0) return stored_kernel(first, shape);

  const float less = first.packing.plus_one ? 1.0F : 0.0F;
  Tensor out =
      pack<float>(DType::kF32, parts, first.weight.shape().rank() == 2 ? first.weight.cols() : 1,
                  first.packing.transposed, [&](const Param& p) {
                    std::vector<float> values(p.weight.f32().begin(), p.weight.f32().end());
                    for (float& v : values) v -= less;
                    p.weight.drop_pages();
                    return values;
                  });
  out.reshape(shape);
  return out;
}

}  // namespace

std::uint64_t ExportSummary::total() const {
  return std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0});
}

StoredKind kind_of(const Model& model, const Param& p) {
  const auto id = static_cast<ParamId>(&p - model.params.data());
  StoredKind kind = StoredKind::kOther;
  for (const NodeId n : model.graph.users(id)) {
    const Node& node = model.graph.node(n);
    if (node.is(op_embedding) || node.is(op_table)) return StoredKind::kEmbeddings;
    if (node.op->product) kind = StoredKind::kFloatLinears;
  }
  return kind;
}

DType float_type_of(const Checkpoint& checkpoint) {
  std::map<DType, std::size_t> bytes;
  for (const auto& [name, view] : checkpoint.tensors())
    if (view.dtype() == DType::kF16 || view.dtype() == DType::kBF16)
      bytes[view.dtype()] += view.num_bytes();
  if (bytes.empty()) return DType::kF32;
  return bytes[DType::kF16] > bytes[DType::kBF16] ? DType::kF16 : DType::kBF16;
}

namespace {

bool fits(std::span<const float> values, DType narrow, float less = 0.0F) {
  return std::all_of(values.begin(), values.end(),
                     [&](float v) { return round_to(narrow, v - less) == v - less; });
}

Tensor narrowed(const Tensor& values, DType narrow) {
  std::vector<std::uint16_t> bits;
  for (const float v : values.f32())
    bits.push_back(narrow == DType::kF16 ? f32_to_f16(v) : f32_to_bf16(v));
  return Tensor::copy_of(TensorView(bits.data(), narrow, values.shape()));
}

}  // namespace

Tensor as_stored(Tensor values, DType narrow) {
  return narrow == DType::kF32 || !fits(values.f32(), narrow) ? std::move(values)
                                                              : narrowed(values, narrow);
}

void add_weight(const Parts& parts, const std::string& name, StoredKind kind, DType narrow,
                TensorSet& out) {
  const Param& first = *parts.front();
  const bool kept = first.stored_shape.rank() > 0;
  const Shape shape = kept ? first.stored_shape : packed_shape(first.packing, first.weight.shape());
  const bool narrows =
      narrow != DType::kF32 && std::all_of(parts.begin(), parts.end(), [&](const Param* p) {
        const bool exact = fits(p->weight.f32(), narrow, p->packing.plus_one ? 1.0F : 0.0F);
        p->weight.drop_pages();
        return exact;
      });
  if (first.packing.plain() && !narrows &&
      !first.weight.in_scratch()) {  // it lies there as it is written
    out.add_view(name, TensorView(first.weight.view().raw(), DType::kF32, shape), kind);
    return;
  }
  const auto make = [parts, shape, narrow, narrows] {
    Tensor weight = stored_weight(parts, shape);
    return narrows ? narrowed(weight, narrow) : std::move(weight);
  };
  out.add(name, narrows ? narrow : DType::kF32, shape, make, kind);
}

Tensor stored_bias(const Parts& parts, const Checkpoint& checkpoint) {
  Tensor bias = pack<float>(DType::kF32, parts, 1, false, [](const Param& p) {
    return std::vector<float>(p.bias.f32().begin(), p.bias.f32().end());
  });
  const auto found =
      checkpoint.tensors().find(parts.front()->bias_name);  // [1, N] of BART's final_logits_bias
  const bool same_size =
      found != checkpoint.tensors().end() && found->second.numel() == bias.numel();
  bias.reshape(same_size ? found->second.shape() : Shape{bias.numel()});
  return bias;
}

}  // namespace quell
