#include "quell/quant/packed_table.h"

#include <vector>

#include "quell/ops/elementwise.h"
#include "quell/quant/packed_codes.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

/// Words hold codes from 0 on.
std::int32_t word_offset(const QuantSpec& spec) {
  return spec.symmetric ? 1 << (spec.num_bits - 1) : 0;
}

}  // namespace

PackedTable::PackedTable(const QTensor& codes)
    : spec_(codes.spec),
      qparams_{codes.qparams.scale.clone(), codes.qparams.zero_point.clone()},
      columns_(codes.codes.cols()) {
  const auto signed_codes = codes.codes.as<std::int16_t>();
  std::vector<std::int32_t> unsigned_codes(signed_codes.begin(), signed_codes.end());
  for (std::int32_t& code : unsigned_codes) code += word_offset(spec_);
  words_ = pack_codes(unsigned_codes, codes.codes.rows(), columns_, spec_.num_bits);
}

std::size_t PackedTable::bytes() const {
  return words_.view().num_bytes() + qparams_.scale.view().num_bytes() +
         qparams_.zero_point.view().num_bytes();
}

void PackedTable::dequantize_row(std::int64_t row, std::span<float> out) const {
  const std::span<const std::int32_t> words(words_.as<std::int32_t>());
  const auto words_a_row = static_cast<std::size_t>(words_.cols());
  const std::vector<std::int32_t> codes =
      unpack_codes(words.subspan(static_cast<std::size_t>(row) * words_a_row, words_a_row), 1,
                   columns_, spec_.num_bits);

  const std::int64_t group_size = rows() * columns_ / qparams_.scale.numel();
  for (std::int64_t c = 0; c < columns_; ++c) {
    const auto at = static_cast<std::size_t>(c);
    const StepAndZero step = qparams_.at((row * columns_ + c) / group_size);
    out[at] = dequantize_code(codes[at] - word_offset(spec_), step);
  }
}

Tensor PackedTable::look_up(std::span<const std::int32_t> ids, std::string_view what) const {
  check_row_ids(ids, rows(), what);
  Tensor out =
      Tensor::uninitialized(DType::kF32, {static_cast<std::int64_t>(ids.size()), columns_});
  for (std::size_t i = 0; i < ids.size(); ++i)
    dequantize_row(ids[i],
                   {out.row(static_cast<std::int64_t>(i)), static_cast<std::size_t>(columns_)});
  return out;
}

Tensor PackedTable::dequantize() const {
  Tensor out = Tensor::uninitialized(DType::kF32, {rows(), columns_});
  for (std::int64_t r = 0; r < rows(); ++r)
    dequantize_row(r, {out.row(r), static_cast<std::size_t>(columns_)});
  return out;
}

}  // namespace quell
