#include "quell/exporting/stored_tensors.h"

#include "quell/base/error.h"

namespace quell {
namespace fs = std::filesystem;

Parts parts_of(const Model& model, const Param& p) {
  Parts parts;
  for (const Param& other : model.params)
    if (p.packing.parts == 1 ? &other == &p : other.weight_name == p.weight_name) parts.push_back(&other);
  return parts;
}

namespace {

Tensor stored_weight(const Parts& parts, const Shape& shape) {
  const Param& first = *parts.front();
  const float less = first.packing.plus_one ? 1.0F : 0.0F;
  Tensor out = pack<float>(DType::kF32, parts, first.weight.shape().rank() == 2 ? first.weight.cols() : 1, first.packing.transposed,
                           [&](const Param& p) {
                             std::vector<float> values(p.weight.f32().begin(), p.weight.f32().end());
                             for (float& v : values) v -= less;
                             p.weight.drop_pages();
                             return values;
                           });
  out.reshape(shape);
  return out;
}

}  // namespace

void add_weight(const Parts& parts, TensorSet& out) {
  const Param& first = *parts.front();
  const Shape& own = first.weight.shape();
  const Shape shape = first.stored_shape.rank() > 0 ? first.stored_shape
                      : own.rank() == 1
                          ? own
                          : packed_shape(static_cast<std::int64_t>(parts.size()), own[0], own[1], first.packing.transposed);
  out.add(first.weight_name, DType::kF32, shape, [parts, shape] { return stored_weight(parts, shape); });
}

Tensor stored_bias(const Parts& parts) {
  Tensor bias = pack<float>(DType::kF32, parts, 1, false,
                            [](const Param& p) { return std::vector<float>(p.bias.f32().begin(), p.bias.f32().end()); });
  bias.reshape({bias.numel()});
  return bias;
}

namespace {

constexpr std::uintmax_t kMaxCopiedFile = 64U << 20;

}  // namespace

void copy_side_files(const fs::path& from, const fs::path& to) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(from, ec)) {
    const std::string name = entry.path().filename().string(), extension = entry.path().extension().string();
    if (name.starts_with(".") || name == "config.json") continue;
    if (entry.is_directory(ec)) {
      if (!fs::exists(entry.path() / "config.json", ec)) continue;
      fs::create_directory(to / name, ec);
      fs::copy_file(entry.path() / "config.json", to / name / "config.json", ec);
    } else if ((extension == ".json" || extension == ".txt" || extension == ".model") && entry.file_size(ec) <= kMaxCopiedFile &&
               name.find(".safetensors") == std::string::npos && name != "config.v4.json") {
      fs::copy_file(entry.path(), to / name, ec);
    }
    require(!ec, ErrorCode::kIo, entry.path().string(), ": cannot copy to ", to.string(), ": ", ec.message());
  }
}

}  // namespace quell
