// Codes and zero points of one quantized matrix in a file: one a byte (`int-quantized`), or packed
// in words (`pack-quantized`).
#pragma once

#include <set>
#include <string>
#include <vector>

#include "quell/io/checkpoint.h"
#include "quell/quant/quant_spec.h"

namespace quell {

/// Matrices of so many bits or fewer are written packed.
inline constexpr int kMaxPackedBits = 4;
inline constexpr const char* kPackedSuffix = "_packed";  ///< after "<module>.weight"
inline constexpr const char* kShapeSuffix =
    "_shape";  ///< likewise: of the matrix whose codes are packed

/// Signed codes [stored rows, stored columns] of `weight_name` ("<module>.weight"). Adds the names
/// it read to `used`. Throws Error(kInvalidInput) where a tensor is missing or does not fit
/// `stored`.
std::vector<std::int32_t> read_stored_codes(const Checkpoint& checkpoint,
                                            const std::string& weight_name, const Shape& stored,
                                            int num_bits, std::set<std::string>& used);

/// `count` steps as f32. Throws Error(kInvalidInput) where there are others or one is not positive:
/// codes would lose their meaning.
Tensor read_scales(const TensorView& view, const std::string& name, std::int64_t count);

/// Signed zero points of the same matrix, `rows` times `per_row`; packed along the rows where the
/// codes are packed and there is more than one.
std::vector<std::int32_t> read_stored_zero_points(const Checkpoint& checkpoint,
                                                  const std::string& weight_name, std::int64_t rows,
                                                  std::int64_t per_row, int num_bits,
                                                  std::set<std::string>& used);

/// The tensor "<module>.weight_packed" of signed codes [rows, columns], and the packed zero points
/// [rows, per_row].
Tensor pack_stored_codes(const Tensor& codes, int num_bits);
Tensor pack_stored_zero_points(const Tensor& zeros, int num_bits);

}  // namespace quell
