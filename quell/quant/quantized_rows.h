// Activations as integer kernels read them: rows of u8 codes.
#pragma once

#include <span>
#include <vector>

#include "quell/base/exec_context.h"
#include "quell/kernels/simd/epilogue_types.h"
#include "quell/quant/quant_spec.h"

namespace quell {

/// Codes are stored as u8: signed ones of b bits plus 2^(b-1) (`code_shift`), zero points likewise.
/// Dynamic rows have a step and zero point each (per token), or one for each group of columns.
/// Static groups of channels (`quant.groups`) lie side by side.
struct QuantizedRows {
  Tensor codes;  ///< u8 [rows * stride + slack]
  std::int64_t rows = 0, columns = 0, stride = 0;
  ActivationQuant quant;
  std::vector<float> scale;        ///< [rows * groups()] where dynamic
  std::vector<std::int32_t> zero;  ///< the same: stored zero points
  std::vector<std::int32_t> sum;   ///< [rows]: sums of the stored codes where asked for

  bool defined() const { return rows > 0; }
  bool grouped() const { return quant.spec.granularity == Granularity::kPerGroup; }
  std::int64_t group_size() const { return grouped() ? quant.spec.group_size : columns; }
  std::int64_t groups() const { return grouped() ? columns / quant.spec.group_size : 1; }
  const std::uint8_t* row(std::int64_t i) const {
    return codes.as<std::uint8_t>().data() + i * stride;
  }
  std::uint8_t* row(std::int64_t i) { return codes.as<std::uint8_t>().data() + i * stride; }
};

/// What is added to a code to store it as u8.
std::int32_t code_shift(const QuantSpec& spec);
/// How a kernel writes codes of a static quantizer (or of one row's step).
kernels::CodeArgs code_args(const QuantSpec& spec, const StepAndZero& qparams);

/// Room for codes, not yet written. Bytes past the columns are unspecified. `stride`: bytes from
/// row to row; 0: as products of matrices want them.
QuantizedRows make_quantized_rows(std::int64_t rows, std::int64_t columns,
                                  const ActivationQuant& quant, std::int64_t stride = 0);
/// Static per tensor or group of channels, or dynamic per token or group; `with_sums`: also row
/// sums.
QuantizedRows quantize_rows(const TensorView& x, const ActivationQuant& quant, bool with_sums,
                            ExecContext& ctx, std::int64_t stride = 0);
/// The same codes, rows `stride` bytes apart.
QuantizedRows with_stride(const QuantizedRows& x, std::int64_t stride);
/// Those rows, in that order, without sums.
QuantizedRows take_rows(const QuantizedRows& x, std::span<const std::int64_t> rows);
/// f32 [rows, columns].
Tensor dequantize_rows(const QuantizedRows& x, ExecContext& ctx);

}  // namespace quell
