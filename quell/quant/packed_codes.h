// Codes of a few bits in 32-bit words, as compressed-tensors' `pack-quantized` lays them out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quell/tensor/tensor.h"

namespace quell {

/// Words that a row of `columns` codes takes.
std::int64_t packed_words(std::int64_t columns, int num_bits);

/// `codes` [rows, columns], each 0 .. 2^num_bits - 1, as i32 [rows, packed_words]. Code c of a row
/// takes the bits from c * num_bits on, lowest first, without gaps: one code may lie in two words.
Tensor pack_codes(std::span<const std::int32_t> codes, std::int64_t rows, std::int64_t columns,
                  int num_bits);

/// The codes [rows, columns] of words [rows, packed_words].
std::vector<std::int32_t> unpack_codes(std::span<const std::int32_t> words, std::int64_t rows,
                                       std::int64_t columns, int num_bits);

}  // namespace quell
