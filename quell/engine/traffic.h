// Memory traffic of a lowered network of convolutions, operator by operator, beside the least that
// integers need: shows where f32 passes between operators.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quell/model/model.h"

namespace quell {

/// Bytes that one operator moves for one image, each value counted once however many taps see it.
struct OperatorTraffic {
  std::string name;
  std::string what;            ///< "conv2d + residual, writes codes"
  std::int64_t operands = 0;   ///< read, as codes or as f32
  std::int64_t converted = 0;  ///< read and written to have an operand in that form
  std::int64_t residual = 0;   ///< read by the epilogue of a product
  std::int64_t weights = 0;    ///< read, as the kernel packs them
  std::int64_t output = 0;     ///< written
  std::int64_t ideal = 0;      ///< what would be enough
  std::int64_t all() const { return operands + converted + residual + weights + output; }
};

/// Of each operator that `lower` runs, as they are executed; nothing for models that are no
/// networks of convolutions alone. The ideal of an operator: operands, residual and output in codes
/// of one byte a value, weights of one byte, half of one where they have at most four bits, or a
/// quarter where they have two; pixels of the caller and outputs that it gets stay in f32.
std::vector<OperatorTraffic> describe_traffic(const Model& model, ExecContext& ctx);

}  // namespace quell
