// What lane detectors say, as lanes: columns at rows of a frame.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quell/model/model.h"
#include "quell/tensor/image_size.h"

namespace quell {

/// Where lanes are wanted: rows of a frame, from its top, in pixels.
struct LaneRows {
  ImageSize frame;
  std::vector<double> y;
};

/// The column at each of the rows, in pixels of the frame; kNoPoint where the lane is not.
using Lane = std::vector<double>;
inline constexpr double kNoPoint = -2;

/// What a network said of several images.
struct LaneOutputs {
  const std::map<std::string, Tensor>& values;
  std::int64_t images = 0;
  ImageSize input = {};     ///< of the images, as the network reads them
  std::string source = {};  ///< the model, for messages
};

/// One way to say lanes. Which one a network has follows from the names of its outputs.
struct LaneDecoder {
  std::string_view network;  ///< who says them so
  std::span<const std::string_view> outputs;
  /// Of image `image`. Throws Error(kUnsupported) where outputs do not have the sizes they need.
  std::vector<Lane> (*decode)(const LaneOutputs& outputs, std::int64_t image, const LaneRows& rows);
};

/// LSTR: curves, and a class for each.
extern const LaneDecoder k_curve_lanes;
/// QuantLaneNet: for each lane and row of a grid a column, whether it is there, and where in its
/// cell.
extern const LaneDecoder k_grid_lanes;

/// Throws Error(kUnsupported) naming the outputs of a model that says no lanes.
const LaneDecoder& find_lane_decoder(const Model& model);

}  // namespace quell
