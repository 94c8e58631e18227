// Resizing by a filter, one axis after the other, in integers: what Pillow and torch have in
// common.
#pragma once

#include <vector>

#include "quell/vision/resize.h"

namespace quell {

/// For each position of the output the weights of consecutive positions of the input. They sum
/// to 1.
struct FilterTaps {
  struct Span {
    std::int64_t first;  ///< position in the input
    std::int64_t count;
    std::size_t begin;  ///< of its weights in `weights`
  };
  std::vector<Span> spans;
  std::vector<double> weights;
};

/// Of a filter that grows with the scale where the output is smaller (antialiasing), as
/// precompute_coeffs of Pillow's Resample.c and _compute_index_ranges_weights of torch's
/// UpSampleKernel.cpp have it. Not for kNearest and kArea.
FilterTaps filter_taps(std::int64_t in, std::int64_t out, ResizeFilter filter);

/// The same with weights in units of 2^-precision.
struct IntegerTaps {
  std::vector<FilterTaps::Span> spans;
  std::vector<std::int32_t> weights;
  int precision = 0;
};

/// Pillow's units: 2^-22 always.
IntegerTaps pillow_taps(const FilterTaps& taps);
/// torch's units: as fine as lets the largest weight of the axis fit into 16 bits.
IntegerTaps torch_taps(const FilterTaps& taps);

/// Each sums in integers, rounds half up and clamps to 0..255.
Image filter_columns(const Image& image, const IntegerTaps& taps);  ///< changes the width
Image filter_rows(const Image& image, const IntegerTaps& taps);     ///< changes the height

}  // namespace quell
