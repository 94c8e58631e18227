// What a quantization takes of memory and disk, from the sizes of its model and samples.
#pragma once

#include <cstdint>
#include <vector>

#include "quell/job/quantize_job.h"

namespace quell {

/// Of what a run makes of a model.
struct QuantizeSizes {
  std::uint64_t floats = 0;     ///< weights and biases
  std::uint64_t quantized = 0;  ///< weights that get codes
  std::uint64_t largest = 0;    ///< elements of a matrix
  std::uint64_t output = 0, journal = 0;
  std::uint64_t matrices() const {
    return sizeof(float) * floats + sizeof(std::int16_t) * quantized;
  }
};
/// By a recipe whose ignored modules are known.
QuantizeSizes sizes_of(const Model& model, const Recipe& recipe);

struct QuantizePeak {
  std::uint64_t memory = 0;  ///< bytes
  std::uint64_t values = 0;  ///< what calibration carries along and compares with, wherever it lies
};

/// At the peak of the run, without what the file cache holds: the matrices, all or those of the
/// widest site, with their codes; the search, which holds the site's inputs twice more, its outputs
/// and two more copies of its weights (three of q, k, v); the values in flight of all batches;
/// outputs of the first tokens. With values in scratch: of the search one block, of values in
/// flight those of one batch, and the site's inputs once, as they are read.
QuantizePeak peak_of(const QuantizeJob& job, const Model& model,
                     const std::vector<TokenBatch>& samples);

}  // namespace quell
