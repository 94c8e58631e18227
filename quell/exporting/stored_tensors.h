// What every writer of checkpoints needs: weights as the family stores them, and what they take.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quell/io/safetensors.h"
#include "quell/model/model.h"

namespace quell {

/// What a tensor of a written file is there for.
enum class StoredKind { kCodes, kSteps, kFloatLinears, kEmbeddings, kOther };
inline constexpr std::size_t kNumStoredKinds = 5;
inline constexpr std::array<const char*, kNumStoredKinds> kStoredKindNames = {
    "codes", "steps", "float linears", "embeddings", "other"};

/// Collects tensors; owns those it is given. Large ones are made when they are written, one at a
/// time.
class TensorSet {
 public:
  void add(const std::string& name, const Tensor& t, StoredKind kind = StoredKind::kOther) {
    insert(name, {t.view()}, kind);
  }
  /// Of what the caller keeps alive.
  void add_view(const std::string& name, const TensorView& view, StoredKind kind) {
    insert(name, {view}, kind);
  }
  void add(const std::string& name, Tensor&& t, StoredKind kind = StoredKind::kOther) {
    owned_.push_back(std::make_unique<Tensor>(std::move(t)));
    insert(name, {owned_.back()->view()}, kind);
  }
  void add(const std::string& name, DType dtype, Shape shape, std::function<Tensor()> make,
           StoredKind kind = StoredKind::kOther) {
    insert(name, {TensorView(nullptr, dtype, std::move(shape)), std::move(make)}, kind);
  }
  const std::map<std::string, TensorSource>& sources() const { return sources_; }
  /// Bytes by StoredKind.
  const std::array<std::uint64_t, kNumStoredKinds>& bytes() const { return bytes_; }

 private:
  void insert(const std::string& name, TensorSource source, StoredKind kind) {
    bytes_[static_cast<std::size_t>(kind)] += source.view.num_bytes();
    sources_[name] = std::move(source);
  }

  std::vector<std::unique_ptr<Tensor>> owned_;
  std::map<std::string, TensorSource> sources_;
  std::array<std::uint64_t, kNumStoredKinds> bytes_ = {};
};

/// What was written.
struct ExportSummary {
  std::array<std::uint64_t, kNumStoredKinds> bytes = {};  ///< of tensors, by StoredKind
  std::vector<std::string> own_features;  ///< why only Quell reads the file; empty: others do
  std::vector<std::string>
      left_behind;  ///< files of the source directory that a user may miss, with reasons
  std::uint64_t total() const;
};

/// Our matrices of one stored tensor: usually one; several where the family fuses q, k and v.
using Parts = std::vector<const Param*>;

/// Of the tensor that holds `parts` matrices of [rows, cols].
inline Shape packed_shape(std::int64_t parts, std::int64_t rows, std::int64_t cols,
                          bool transposed) {
  return transposed ? Shape{cols, rows * parts} : Shape{rows * parts, cols};
}

/// Rows of `values(part)` [rows, cols] in the order of the stored tensor; `transposed`: as [cols,
/// stored rows].
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

/// What `model` was read from; no tensors where it was made in memory.
Checkpoint original_of(const Model& model);
/// `p` and the parameters that share its stored tensor.
Parts parts_of(const Model& model, const Param& p);
/// What `p` is by the steps that read it: a linear, an embedding table (also where a head is tied
/// to it), or other.
StoredKind kind_of(const Model& model, const Param& p);

/// F16 or BF16 where `checkpoint` holds such tensors, else F32.
DType float_type_of(const Checkpoint& checkpoint);
/// `values` [..] as `narrow` where all are exactly values of that type, else as they are (F32).
Tensor as_stored(Tensor values, DType narrow);

/// Adds the float weight of `parts` as the family stores it, under `name`: as `narrow` where that
/// loses nothing, else as F32.
void add_weight(const Parts& parts, const std::string& name, StoredKind kind, DType narrow,
                TensorSet& out);
/// The bias of `parts`, in the shape in which `checkpoint`, from which they were read, holds it.
Tensor stored_bias(const Parts& parts, const Checkpoint& checkpoint);

}  // namespace quell
