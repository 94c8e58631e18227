// What every writer of checkpoints needs: weights as the family stores them, and the files that travel with a model.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quell/io/safetensors.h"
#include "quell/model/model.h"

namespace quell {

/// Collects tensors; owns those it is given. Large ones are made when they are written, one at a time.
class TensorSet {
 public:
  void add(const std::string& name, const Tensor& t) { sources_[name] = {t.view()}; }
  void add(const std::string& name, Tensor&& t) {
    owned_.push_back(std::make_unique<Tensor>(std::move(t)));
    sources_[name] = {owned_.back()->view()};
  }
  void add(const std::string& name, DType dtype, Shape shape, std::function<Tensor()> make) {
    sources_[name] = {TensorView(nullptr, dtype, std::move(shape)), std::move(make)};
  }
  const std::map<std::string, TensorSource>& sources() const { return sources_; }

 private:
  std::vector<std::unique_ptr<Tensor>> owned_;
  std::map<std::string, TensorSource> sources_;
};

/// Our matrices of one stored tensor: usually one; several where the family fuses q, k and v.
using Parts = std::vector<const Param*>;

/// Of the tensor that holds `parts` matrices of [rows, cols].
inline Shape packed_shape(std::int64_t parts, std::int64_t rows, std::int64_t cols, bool transposed) {
  return transposed ? Shape{cols, rows * parts} : Shape{rows * parts, cols};
}

/// Rows of `values(part)` [rows, cols] in the order of the stored tensor; `transposed`: as [cols, stored rows].
template <typename T, typename Values>
Tensor pack(DType dtype, const Parts& parts, std::int64_t cols, bool transposed, Values values) {
  const auto count = static_cast<std::int64_t>(parts.size());
  std::int64_t rows = 0;
  for (const Param* p : parts) rows = static_cast<std::int64_t>(values(*p).size()) / cols;
  const std::int64_t stored_rows = rows * count;
  Tensor out(dtype, packed_shape(count, rows, cols, transposed));
  for (const Param* p : parts) {
    const auto from = values(*p);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t to = packed_row(p->packing, r, rows);
      for (std::int64_t c = 0; c < cols; ++c)
        out.as<T>()[static_cast<std::size_t>(transposed ? c * stored_rows + to : to * cols + c)] =
            static_cast<T>(from[static_cast<std::size_t>(r * cols + c)]);
    }
  }
  return out;
}

/// `p` and the parameters that share its stored tensor.
Parts parts_of(const Model& model, const Param& p);
/// Adds the float weight of `parts` as the family stores it.
void add_weight(const Parts& parts, TensorSet& out);
Tensor stored_bias(const Parts& parts);
/// Tokenizer, pooling and other settings travel with the model; weights, old configs and hidden files do not. Throws Error(kIo).
void copy_side_files(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace quell
