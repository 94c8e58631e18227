// A quantized table as engines look it up: packed, and dequantized row by row.
#pragma once

#include <span>
#include <string_view>

#include "quell/quant/quant_spec.h"

namespace quell {

/// Codes [rows, columns] in as many bits as their quantizer says, without gaps in a row, and their
/// steps. Not defined() when default-constructed.
class PackedTable {
 public:
  PackedTable() = default;
  explicit PackedTable(const QTensor& codes);

  bool defined() const { return words_.defined(); }
  std::int64_t rows() const { return words_.rows(); }
  std::int64_t columns() const { return columns_; }
  std::size_t bytes() const;
  /// f32 [ids, columns], the values that dequantize gives for these rows. Throws
  /// Error(kInvalidInput) on an id outside the table, `what` being what ids are of.
  Tensor look_up(std::span<const std::int32_t> ids, std::string_view what) const;
  /// All rows.
  Tensor dequantize() const;

 private:
  void dequantize_row(std::int64_t row, std::span<float> out) const;

  QuantSpec spec_;
  QParams qparams_;
  Tensor words_;  ///< of pack_codes
  std::int64_t columns_ = 0;
};

}  // namespace quell
