// What a run will need of the memory that is there, from the sizes of its values.
#pragma once

#include <cstdint>
#include <vector>

#include "quell/model/model.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// Bytes that the machine can still give; 0: not known.
std::uint64_t available_memory();

/// What sets the number of rows of every value: sequences or images, and their tokens.
struct BatchSize {
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;  ///< padding included

  static BatchSize of(const std::vector<TokenBatch>& batches);
};

/// Rows of a value in a batch of that size; 0 for scores of attention, which are made part by part.
std::uint64_t rows_of(const Model& model, ValueId v, const BatchSize& size);

/// The most elements that values have at one time, where nodes run one after the other and values
/// go with their last use; outputs stay.
std::uint64_t most_values(const Model& model, const BatchSize& size);

}  // namespace quell
