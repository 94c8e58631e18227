#include "quell/train/torch_parameters.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/train/torch_op.h"

namespace quell::train {

torch::Tensor to_torch(std::span<const std::int32_t> values) {
  torch::Tensor out = torch::empty({std::ssize(values)}, torch::kInt64);
  std::copy(values.begin(), values.end(), out.data_ptr<std::int64_t>());
  return out;
}

torch::Tensor to_torch(const TensorView& values, torch::ScalarType dtype) {
  // Torch borrows without const; the copy is all that leaves this function.
  void* const data = const_cast<void*>(values.raw());
  const torch::Tensor borrowed =
      torch::from_blob(data, torch::IntArrayRef(values.shape().dims()), torch::kFloat32);
  return borrowed.to(dtype, /*non_blocking=*/false, /*copy=*/true);
}

namespace {

/// Where a part's rows lie in its tensor.
std::vector<std::int64_t> rows_in(const Packing& packing, std::int64_t rows) {
  std::vector<std::int64_t> out;
  for (std::int64_t r = 0; r < rows; ++r) out.push_back(packed_row(packing, r, rows));
  return out;
}

void copy_to(const torch::Tensor& from, Tensor& to) {
  const torch::Tensor rounded = from.detach().to(torch::kFloat32).contiguous();
  std::copy_n(rounded.data_ptr<float>(), rounded.numel(), to.f32().data());
}

}  // namespace

TorchParameters::TorchParameters(const Model& model, torch::ScalarType dtype) {
  require(!model.scratch, ErrorCode::kUnsupported,
          "training wants all weights in memory, and those of this model lie in scratch");

  for (std::size_t i = 0; i < model.params.size(); ++i) {
    const Param& p = model.params[i];
    Entry entry;
    entry.tied_to = p.tied_to;
    if (p.weight.defined()) entry.weight = add(p.weight_name, p.weight, p.packing, dtype);
    if (p.bias.defined()) {
      // A bias that checkpoints may lack is a constant of the reference.
      const bool is_constant = model.graph.params()[i].zero_bias_if_missing;
      if (is_constant)
        entry.constant_bias = to_torch(p.bias, dtype);
      else
        entry.bias = add(p.bias_name, p.bias, p.packing, dtype);
    }
    for (const Tensor& v : p.vectors) entry.vectors.push_back(to_torch(v, dtype));
    entries_.push_back(std::move(entry));
  }
  for (const TorchParameter& p : trained_) p.tensor.requires_grad_(true);
}

TorchParameters::Part TorchParameters::add(const std::string& name, const Tensor& values,
                                           const Packing& packing, torch::ScalarType dtype) {
  const torch::Tensor given = to_torch(values, dtype);
  const std::int64_t rows = given.size(0);
  const auto [found, is_new] = by_name_.try_emplace(name, static_cast<int>(trained_.size()));
  Part part;
  part.tensor = found->second;
  part.rows = rows;

  if (packing.parts == 1) {
    require(is_new, ErrorCode::kUnsupported, "two parameters are stored as \"", name, "\"");
    trained_.push_back({name, given});
    return part;
  }

  if (is_new) {
    std::vector<std::int64_t> shape = given.sizes().vec();
    shape[0] = rows * packing.parts;
    trained_.push_back({name, torch::zeros(shape, dtype)});
  }
  const std::vector<std::int64_t> places = rows_in(packing, rows);
  const torch::Tensor indices = torch::tensor(places);
  trained_[static_cast<std::size_t>(part.tensor)].tensor.index_copy_(0, indices, given);

  part.whole = false;
  part.first = places.front();
  if (places.back() - places.front() != rows - 1) part.indices = indices;
  return part;
}

const torch::Tensor& TorchParameters::at(const std::string& name) const {
  const auto found = by_name_.find(name);
  require(found != by_name_.end(), ErrorCode::kUsage, "the model has no parameter \"", name, "\"");
  return trained_[static_cast<std::size_t>(found->second)].tensor;
}

torch::Tensor TorchParameters::rows_of(const torch::Tensor& whole, const Part& part) const {
  if (part.whole) return whole;
  if (part.indices.defined()) return whole.index_select(0, part.indices);
  return whole.narrow(0, part.first, part.rows);
}

torch::Tensor TorchParameters::read(const Part& part) const {
  if (part.tensor < 0) return {};
  return rows_of(trained_[static_cast<std::size_t>(part.tensor)].tensor, part);
}

const TorchParameters::Part& TorchParameters::weight_part(ParamId p) const {
  const Entry& entry = entries_[static_cast<std::size_t>(p)];
  return entry.tied_to == kNoParam ? entry.weight : weight_part(entry.tied_to);
}

torch::Tensor TorchParameters::weight(ParamId p) const { return read(weight_part(p)); }

torch::Tensor TorchParameters::bias(ParamId p) const {
  const Entry& entry = entries_[static_cast<std::size_t>(p)];
  return entry.constant_bias.defined() ? entry.constant_bias : read(entry.bias);
}

const torch::Tensor& TorchParameters::vector(ParamId p, std::size_t i) const {
  return entries_[static_cast<std::size_t>(p)].vectors[i];
}

const std::string& TorchParameters::stored_weight(ParamId p) const {
  static const std::string kNone;
  const Part& part = weight_part(p);
  return part.tensor < 0 ? kNone : trained_[static_cast<std::size_t>(part.tensor)].name;
}

torch::Tensor TorchParameters::part_of(const torch::Tensor& whole, ParamId p) const {
  return rows_of(whole, weight_part(p));
}

void TorchParameters::write_to(Model& model) const {
  require(model.params.size() == entries_.size(), ErrorCode::kUsage,
          "trained parameters are written to a model of ", model.params.size(),
          " parameters, and there are ", entries_.size());

  for (std::size_t p = 0; p < entries_.size(); ++p) {
    Param& param = model.params[p];
    const Entry& entry = entries_[p];
    require(!param.quantized && !param.packed_table.defined(), ErrorCode::kUnsupported,
            param.module, ": holds codes of the weight that it had before training");
    if (entry.weight.tensor >= 0) copy_to(read(entry.weight), param.weight);
    if (entry.bias.tensor >= 0) copy_to(read(entry.bias), param.bias);
    for (std::size_t i = 0; i < entry.vectors.size(); ++i)
      copy_to(entry.vectors[i], param.vectors[i]);
  }
}

}  // namespace quell::train
