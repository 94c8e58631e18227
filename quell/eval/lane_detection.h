// How well a model finds the lanes of a road: TuSimple's labels and its metric.
#pragma once

#include <filesystem>

#include "quell/engine/lane_decoder.h"
#include "quell/eval/evaluate.h"
#include "quell/vision/preprocessing.h"

namespace quell {

/// Labels are for frames of this size, whatever the size of the file.
inline constexpr ImageSize kLaneFrame = {720, 1280};

struct LabelledFrame {
  std::filesystem::path image;
  LaneRows rows;
  std::vector<Lane> lanes;
};

/// TuSimple's label file: an object a line with `h_samples` (rows), `lanes` (a column for each row,
/// below 0 where the lane is not) and `raw_file`, or `image` where the frame lies elsewhere; both
/// are relative to the file. Throws Error(kIo | kInvalidInput) with the row.
std::vector<LabelledFrame> read_lane_labels(const std::filesystem::path& file);

/// All from 0 to 1.
struct LaneScore {
  double accuracy = 0;
  double false_positives = 0;  ///< share of the lanes found that are none
  double false_negatives = 0;  ///< share of the lanes labelled that were not found
};

/// Of one frame, as TuSimple's script (lane.py) has it; docs/evaluation.md says how. Lanes have the
/// same rows.
LaneScore score_lanes(const std::vector<Lane>& found, const LabelledFrame& label);

struct LaneEvalSet {
  std::span<const LabelledFrame> frames;
  Preprocessing steps = {};
  std::int64_t skip = 0;   ///< left out at the beginning
  std::int64_t limit = 0;  ///< frames at most; 0: all
  std::int64_t batch = 8;
};

/// `accuracy`, `fp` and `fn` in percent, means over the frames; those of `reference` (may be null)
/// beside them. Throws Error(kUnsupported) where the model's outputs are no lanes,
/// Error(kInvalidInput) on a frame that has not the shape of the labels.
std::vector<MetricResult> evaluate_lanes(const ForwardModel& model, const ForwardModel* reference,
                                         const LaneEvalSet& set, ExecContext& ctx);

}  // namespace quell
