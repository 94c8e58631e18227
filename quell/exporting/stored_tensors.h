// What every writer of checkpoints needs: weights as the family stores them, and the files that travel with a model.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quell/model/model.h"

namespace quell {

/// Collects tensors; owns those it makes.
class TensorSet {
 public:
  void add(const std::string& name, const Tensor& t) { views_[name] = t.view(); }
  void add(const std::string& name, Tensor&& t) {
    owned_.push_back(std::make_unique<Tensor>(std::move(t)));
    views_[name] = owned_.back()->view();
  }
  const std::map<std::string, TensorView>& views() const { return views_; }

 private:
  std::vector<std::unique_ptr<Tensor>> owned_;
  std::map<std::string, TensorView> views_;
};

/// Our matrices of one stored tensor: usually one; several where the family fuses q, k and v.
using Parts = std::vector<const Param*>;

/// Rows of `values(part)` [rows, cols] in the order of the stored tensor; `transposed`: as [cols, stored rows].
template <typename T, typename Values>
Tensor pack(DType dtype, const Parts& parts, std::int64_t cols, bool transposed, Values values) {
  const auto count = static_cast<std::int64_t>(parts.size());
  std::int64_t rows = 0;
  for (const Param* p : parts) rows = static_cast<std::int64_t>(values(*p).size()) / cols;
  const std::int64_t stored_rows = rows * count;
  Tensor out(dtype, transposed ? Shape{cols, stored_rows} : Shape{stored_rows, cols});
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
/// A float weight or bias as the family stores it.
Tensor stored_weight(const Parts& parts);
Tensor stored_bias(const Parts& parts);
/// Tokenizer, pooling and other settings travel with the model; weights, old configs and hidden files do not. Throws Error(kIo).
void copy_side_files(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace quell
