// What a model takes by the accounting of the papers on training with few bits (TernaryBERT,
// QuantGPT, QuantBART): from shapes alone.
#pragma once

#include <cstdint>
#include <string>

#include "quell/graph/graph.h"
#include "quell/io/json_fwd.h"
#include "quell/quant/scheme.h"

namespace quell {

/// Bytes of the model, in three parts that the papers count or leave out.
struct SchemeSizes {
  std::uint64_t float_model = 0;  ///< every parameter as f32
  /// Codes of the table of words (a tied head is the same table), of all matrices of the layers and
  /// of the pooler; everything else as f32: positions, types, norms, biases, classifiers.
  std::uint64_t without_steps = 0;
  std::uint64_t matrix_steps = 0;     ///< f32, one for each matrix and each table
  std::uint64_t table_row_steps = 0;  ///< f32: one for each row of each table instead of one for it
  std::uint64_t with_matrix_steps() const { return without_steps + matrix_steps; }
  std::uint64_t with_row_steps() const { return with_matrix_steps() + table_row_steps; }
};
SchemeSizes sizes_by_scheme(const Graph& graph, const Scheme& scheme);

/// For `quell inspect --scheme`.
Json describe_scheme_sizes(const Graph& graph, const std::string& scheme);
std::string scheme_sizes_text(const Json& sizes);

}  // namespace quell
