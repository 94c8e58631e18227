#include "quell/model/stored_codes.h"

#include "quell/base/error.h"
#include "quell/model/tensor_names.h"
#include "quell/quant/packed_codes.h"

namespace quell {
namespace {

void require_like(const Checkpoint& checkpoint, const std::string& name, const TensorView& found,
                  DType dtype, const Shape& shape, const char* what) {
  require(found.dtype() == dtype && found.shape() == shape, ErrorCode::kInvalidInput,
          checkpoint.source_of(name), ": tensor \"", name, "\": expected ", dtype_name(dtype), " ",
          what, " of shape ", shape.to_string(), ", found ", dtype_name(found.dtype()), " ",
          found.shape().to_string());
}

/// Words hold codes from 0 on.
std::int32_t word_offset(int num_bits) { return 1 << (num_bits - 1); }

std::vector<std::int32_t> unsigned_codes(std::span<const std::int8_t> codes, int num_bits) {
  std::vector<std::int32_t> out(codes.begin(), codes.end());
  for (std::int32_t& c : out) c += word_offset(num_bits);
  return out;
}

bool is_packed(const Checkpoint& checkpoint, const std::string& weight_name) {
  return !checkpoint.tensors().contains(weight_name) &&
         checkpoint.tensors().contains(weight_name + kPackedSuffix);
}

}  // namespace

Tensor read_scales(const TensorView& view, const std::string& name, std::int64_t count) {
  Tensor scale = to_f32(view, name);
  require(scale.numel() == count, ErrorCode::kInvalidInput, "tensor \"", name,
          "\": ", scale.numel(), " scales, expected ", count);
  for (const float s : scale.f32())
    require(s > 0.0F, ErrorCode::kInvalidInput, "tensor \"", name, "\": a scale is not positive");
  scale.reshape({count});
  return scale;
}

std::vector<std::int32_t> read_stored_codes(const Checkpoint& checkpoint,
                                            const std::string& weight_name, const Shape& stored,
                                            int num_bits, std::set<std::string>& used) {
  if (!is_packed(checkpoint, weight_name)) {
    const TensorView& codes = need_tensor(checkpoint, weight_name, used);
    require_like(checkpoint, weight_name, codes, DType::kI8, stored, "codes");
    return to_i32(codes, weight_name);
  }

  const std::string shape_name = weight_name + kShapeSuffix,
                    packed_name = weight_name + kPackedSuffix;
  const std::vector<std::int32_t> shape =
      to_i32(need_tensor(checkpoint, shape_name, used), shape_name);
  require(shape.size() == 2 && shape[0] == stored[0] && shape[1] == stored[1],
          ErrorCode::kInvalidInput, checkpoint.source_of(shape_name), ": tensor \"", shape_name,
          "\" is not the shape ", stored.to_string(), " that config.json says");
  const TensorView& words = need_tensor(checkpoint, packed_name, used);
  require_like(checkpoint, packed_name, words, DType::kI32,
               {stored[0], packed_words(stored[1], num_bits)}, "words");
  const std::vector<std::int32_t> plain =
      to_i32(words, packed_name);  // the file may hold them unaligned
  std::vector<std::int32_t> codes = unpack_codes(plain, stored[0], stored[1], num_bits);
  for (std::int32_t& c : codes) c -= word_offset(num_bits);
  return codes;
}

std::vector<std::int32_t> read_stored_zero_points(const Checkpoint& checkpoint,
                                                  const std::string& weight_name, std::int64_t rows,
                                                  std::int64_t per_row, int num_bits,
                                                  std::set<std::string>& used) {
  const std::string name = weight_name + "_zero_point";
  const TensorView& found = need_tensor(checkpoint, name, used);
  const std::vector<std::int32_t> stored = to_i32(found, name);
  if (!is_packed(checkpoint, weight_name) || found.dtype() != DType::kI32) {
    require(static_cast<std::int64_t>(stored.size()) == rows * per_row, ErrorCode::kInvalidInput,
            "tensor \"", name, "\": ", stored.size(), " zero points, expected ", rows * per_row);
    return stored;
  }

  const std::int64_t words = packed_words(rows, num_bits);
  require_like(checkpoint, name, found, DType::kI32, {words, per_row}, "words");
  std::vector<std::int32_t> across(stored.size());  // [per_row, words]
  for (std::int64_t w = 0; w < words; ++w)
    for (std::int64_t g = 0; g < per_row; ++g)
      across[static_cast<std::size_t>(g * words + w)] =
          stored[static_cast<std::size_t>(w * per_row + g)];
  const std::vector<std::int32_t> by_group = unpack_codes(across, per_row, rows, num_bits);
  std::vector<std::int32_t> zeros(by_group.size());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t g = 0; g < per_row; ++g)
      zeros[static_cast<std::size_t>(r * per_row + g)] =
          by_group[static_cast<std::size_t>(g * rows + r)] - word_offset(num_bits);
  return zeros;
}

Tensor pack_stored_codes(const Tensor& codes, int num_bits) {
  return pack_codes(unsigned_codes(codes.as<std::int8_t>(), num_bits), codes.rows(), codes.cols(),
                    num_bits);
}

Tensor pack_stored_zero_points(const Tensor& zeros, int num_bits) {
  const std::int64_t rows = zeros.rows(), per_row = zeros.cols();
  const std::vector<std::int32_t> plain = unsigned_codes(zeros.as<std::int8_t>(), num_bits);
  std::vector<std::int32_t> across(plain.size());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t g = 0; g < per_row; ++g)
      across[static_cast<std::size_t>(g * rows + r)] =
          plain[static_cast<std::size_t>(r * per_row + g)];
  const Tensor by_group = pack_codes(across, per_row, rows, num_bits);
  const std::int64_t words = by_group.cols();
  Tensor out(DType::kI32, {words, per_row});
  for (std::int64_t w = 0; w < words; ++w)
    for (std::int64_t g = 0; g < per_row; ++g)
      out.as<std::int32_t>()[static_cast<std::size_t>(w * per_row + g)] =
          by_group.as<std::int32_t>()[static_cast<std::size_t>(g * words + w)];
  return out;
}

}  // namespace quell
