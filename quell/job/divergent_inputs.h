// The held-out samples on which a quantized model is furthest from the float one, as people see
// them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quell/job/calibration_samples.h"

namespace quell {

struct DivergentInput {
  std::string name;       ///< of the image in its folder or archive; of a text: which sample it is
  std::string text;       ///< its beginning, or that of its token ids; empty for images
  std::string thumbnail;  ///< a data: URI of a small PNG image; empty for texts
  double divergence = 0;
  bool has_classes = false;  ///< whether the outputs are logits with a row for each sample
  std::int64_t float_class = 0;
  std::int64_t quantized_class = 0;
  std::string float_label;  ///< of id2label; empty where that says nothing
  std::string quantized_label;
};

/// What was measured on the samples behind the first `begin` of them, one number each.
struct HeldOut {
  const CalibrationSamples& samples;
  std::int64_t begin = 0;
  std::vector<double> divergences = {};
  std::vector<std::int64_t> float_classes = {};  ///< empty: the outputs are no classes
  std::vector<std::int64_t> quantized_classes = {};
};

/// At most `count`, the largest divergence first. `source` is the file or folder that the samples
/// are from. Throws as ImageSource::image.
std::vector<DivergentInput> most_divergent(const HeldOut& held_out, std::size_t count,
                                           const Model& model, const std::filesystem::path& source);

}  // namespace quell
