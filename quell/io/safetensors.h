// The safetensors format: strict reading of untrusted files, atomic writing.
// Format: [u64 little-endian N][N bytes of JSON][data]; see huggingface/safetensors.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quell/io/mapped_file.h"
#include "quell/tensor/tensor.h"

namespace quell {

/// One mapped file. Views point into the mapping, which this object keeps alive.
/// Validation: header size, JSON without duplicate keys, known dtypes, no overflow in sizes,
/// offsets contiguous from 0 to the exact end of the file. Throws Error(kInvalidInput) naming file
/// and tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  /// Parses bytes that the caller keeps alive; `source` names them in messages.
  SafetensorsFile(std::span<const std::byte> bytes, const std::string& source);

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool has(const std::string& name) const { return tensors_.contains(name); }
  /// Throws Error(kInvalidInput) when there is no such tensor.
  const TensorView& at(const std::string& name) const;
  const std::string& source() const { return source_; }
  /// What was read leaves memory until it is read again.
  void drop_pages() const;

 private:
  void parse(std::span<const std::byte> bytes);

  std::unique_ptr<MappedFile> file_;
  std::string source_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to write: one that is there, or one that `make` makes when its turn comes, of the dtype
/// and shape of `view`.
struct TensorSource {
  TensorView view;
  std::function<Tensor()> make = nullptr;
};

/// Writes `tensors` to `path` (dtype alignment descending, then name; data aligned to 8 bytes)
/// under a temporary name, then renames. Throws Error(kIo).
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// Elements of any numeric dtype as f32. Throws Error(kNumeric) naming `name` at the first NaN or
/// infinity unless `allow_nonfinite`.
Tensor to_f32(const TensorView& view, const std::string& name, bool allow_nonfinite = false);

/// Elements of I64, I32, I16, I8, U8 or BOOL as int32. Throws Error(kInvalidInput) on another dtype
/// or an overflow.
std::vector<std::int32_t> to_i32(const TensorView& view, const std::string& name);

}  // namespace quell
