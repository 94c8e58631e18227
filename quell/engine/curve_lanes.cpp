// LSTR's lanes (Liu et al. 2021): a query is a lane where its class is 1, and then its eight
// numbers say between which rows it runs, and a curve that a camera over a flat road would see.
// Rows and columns are shares of the frame.
#include <algorithm>

#include "quell/base/error.h"
#include "quell/engine/lane_decoder.h"

namespace quell {
namespace {

constexpr std::string_view kCurveOutputs[] = {"pred_logits", "pred_curves"};
constexpr std::int64_t kLaneClass = 1;

/// Names as in the paper; b' and b'' hold the two linear terms.
struct Curve {
  double first = 0;  ///< row
  double last = 0;   ///< row
  double k = 0;
  double f = 0;
  double m = 0;
  double n = 0;
  double b1 = 0;
  double b2 = 0;

  static constexpr std::int64_t kNumbers = 8;
  explicit Curve(const float* v)
      : first(v[0]), last(v[1]), k(v[2]), f(v[3]), m(v[4]), n(v[5]), b1(v[6]), b2(v[7]) {}

  double column(double y) const {
    const double distance = y - f;
    return k / (distance * distance) + m / distance + n + b1 * y - b2;
  }
};

Lane draw_curve(const Curve& curve, const LaneRows& rows) {
  const auto height = static_cast<double>(rows.frame.height);
  const auto width = static_cast<double>(rows.frame.width);
  Lane lane;
  for (const double row : rows.y) {
    const double y = row / height;
    const bool is_there = y >= curve.first && y <= curve.last;
    lane.push_back(is_there ? curve.column(y) * width : kNoPoint);
  }
  return lane;
}

std::vector<Lane> decode_curves(const LaneOutputs& outputs, std::int64_t image,
                                const LaneRows& rows) {
  const Tensor& logits = outputs.values.at("pred_logits");
  const Tensor& curves = outputs.values.at("pred_curves");
  const bool fits = logits.rows() % outputs.images == 0 && logits.rows() == curves.rows() &&
                    logits.cols() > kLaneClass && curves.cols() == Curve::kNumbers;
  require(fits, ErrorCode::kUnsupported, outputs.source, ": pred_logits is ", logits.rows(), " x ",
          logits.cols(), " and pred_curves ", curves.rows(), " x ", curves.cols(),
          "; expected classes and ", Curve::kNumbers, " numbers for each query of ", outputs.images,
          " images");

  const std::int64_t queries = logits.rows() / outputs.images;
  std::vector<Lane> lanes;
  for (std::int64_t q = image * queries; q < (image + 1) * queries; ++q) {
    const float* scores = logits.row(q);
    const bool is_lane = std::max_element(scores, scores + logits.cols()) - scores == kLaneClass;
    if (is_lane) lanes.push_back(draw_curve(Curve(curves.row(q)), rows));
  }
  return lanes;
}

}  // namespace

const LaneDecoder k_curve_lanes = {
    .network = "LSTR", .outputs = kCurveOutputs, .decode = decode_curves};

}  // namespace quell
