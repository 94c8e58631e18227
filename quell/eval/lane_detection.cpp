#include "quell/eval/lane_detection.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/eval/image_classification.h"
#include "quell/io/json.h"
#include "quell/model/image_input.h"
#include "quell/text/data/dataset.h"
#include "quell/vision/decode_image.h"
#include "quell/vision/label_file.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

/// Pixels across a lane within which a point is right.
constexpr double kPointDistance = 20;
/// Share of right points from which a lane is found.
constexpr double kLaneFound = 0.85;
/// A frame with more labelled lanes may miss one.
constexpr std::size_t kCountedLanes = 4;

std::vector<double> read_numbers(const Json& list, double low, double high,
                                 const std::string& where) {
  require(list.is_array(), ErrorCode::kInvalidInput, where, " is not a list of numbers");
  std::vector<double> numbers;
  for (const Json& entry : list) {
    const bool fits =
        entry.is_number() && entry.get<double>() >= low && entry.get<double>() <= high;
    require(fits, ErrorCode::kInvalidInput, where, " holds ", entry.dump().substr(0, 40),
            "; expected numbers from ", low, " to ", high);
    numbers.push_back(entry.get<double>());
  }
  return numbers;
}

LabelledFrame read_frame(const Json& row, const fs::path& folder, const std::string& where) {
  constexpr double kMostColumns = 1e5;
  LabelledFrame frame;
  const Json image = row.value("image", row.value("raw_file", Json()));
  require(image.is_string(), ErrorCode::kInvalidInput, where,
          R"(neither "image" nor "raw_file" says where the frame lies)");
  check_image_name(image.get<std::string>(), where + "frame");
  frame.image = folder / image.get<std::string>();

  const auto last_row = static_cast<double>(kLaneFrame.height - 1);
  frame.rows = {kLaneFrame,
                read_numbers(row.value("h_samples", Json()), 0, last_row, where + "\"h_samples\"")};
  require(!frame.rows.y.empty(), ErrorCode::kInvalidInput, where, "\"h_samples\" is empty");

  const Json lanes = row.value("lanes", Json());
  require(lanes.is_array(), ErrorCode::kInvalidInput, where, "\"lanes\" is not a list");
  for (const Json& lane : lanes) {
    const std::string name = str(where, "lane ", frame.lanes.size() + 1);
    frame.lanes.push_back(read_numbers(lane, -kMostColumns, kMostColumns, name));
    const std::size_t points = frame.lanes.back().size();
    require(points == frame.rows.y.size(), ErrorCode::kInvalidInput, name, " has ", points,
            " points, and there are ", frame.rows.y.size(), " rows in \"h_samples\"");
  }
  return frame;
}

/// How far along its row a point may lie: steep lanes are crossed at an angle.
double point_tolerance(const Lane& lane, const LaneRows& rows) {
  double count = 0, sum_x = 0, sum_y = 0;
  for (std::size_t i = 0; i < lane.size(); ++i) {
    if (lane[i] < 0) continue;
    count += 1;
    sum_x += lane[i];
    sum_y += rows.y[i];
  }
  if (count < 2) return kPointDistance;

  // The slope of the line through the points that is best by least squares.
  double covariance = 0, variance = 0;
  for (std::size_t i = 0; i < lane.size(); ++i) {
    if (lane[i] < 0) continue;
    const double y = rows.y[i] - sum_y / count;
    covariance += y * (lane[i] - sum_x / count);
    variance += y * y;
  }
  const double slope = variance > 0 ? covariance / variance : 0;
  return kPointDistance / std::cos(std::atan(slope));
}

/// Share of the rows where both are at the same place, or both absent.
double share_of_right_points(const Lane& found, const Lane& label, double tolerance) {
  constexpr double kAbsent = -100;
  const auto place = [](double x) { return x >= 0 ? x : kAbsent; };
  double right = 0;
  for (std::size_t i = 0; i < label.size(); ++i)
    right += std::fabs(place(found[i]) - place(label[i])) < tolerance ? 1 : 0;
  return right / static_cast<double>(label.size());
}

/// Frames as images, of which labels are no classes.
class FrameImages final : public ImageSource {
 public:
  explicit FrameImages(std::span<const LabelledFrame> frames) : frames_(frames) {}

  std::int64_t size() const override { return std::ssize(frames_); }
  std::string name(std::int64_t i) const override { return frame(i).image.string(); }
  std::optional<std::int32_t> label(std::int64_t) const override { return std::nullopt; }
  Image image(std::int64_t i) const override {
    Image out = read_image(frame(i).image);
    const bool same_shape = out.width * kLaneFrame.height == out.height * kLaneFrame.width;
    require(same_shape, ErrorCode::kInvalidInput, name(i), ": ", out.width, " x ", out.height,
            " pixels; lanes are labelled in frames of ", kLaneFrame.width, " x ",
            kLaneFrame.height);
    return out;
  }

 private:
  const LabelledFrame& frame(std::int64_t i) const { return frames_[static_cast<std::size_t>(i)]; }

  std::span<const LabelledFrame> frames_;
};

/// A model and the sum of its scores.
class ScoredModel {
 public:
  explicit ScoredModel(const ForwardModel& model)
      : model_(model), decoder_(find_lane_decoder(model.model())) {}

  void add(const TokenBatch& batch, std::span<const LabelledFrame> frames, ExecContext& ctx) {
    ForwardOutputs outputs;
    model_.forward(batch, outputs, ctx);
    const LaneOutputs said = {.values = outputs.values,
                              .images = std::ssize(frames),
                              .input = input(),
                              .source = model_.model().dir.string()};
    for (std::int64_t i = 0; i < said.images; ++i) {
      const LabelledFrame& frame = frames[static_cast<std::size_t>(i)];
      const LaneScore score = score_lanes(decoder_.decode(said, i, frame.rows), frame);
      sum_.accuracy += score.accuracy;
      sum_.false_positives += score.false_positives;
      sum_.false_negatives += score.false_negatives;
    }
    frames_ += said.images;
  }

  ImageSize input() const { return image_input_of(model_.model().graph).value().size; }

  void append_means(const std::string& prefix, std::vector<MetricResult>& out) const {
    const double percent = 100.0 / static_cast<double>(frames_);
    out.push_back({prefix + "accuracy", percent * sum_.accuracy, frames_});
    out.push_back({prefix + "fp", percent * sum_.false_positives, frames_});
    out.push_back({prefix + "fn", percent * sum_.false_negatives, frames_});
  }

 private:
  const ForwardModel& model_;
  const LaneDecoder& decoder_;
  LaneScore sum_;
  std::int64_t frames_ = 0;
};

}  // namespace

std::vector<LabelledFrame> read_lane_labels(const fs::path& file) {
  std::vector<LabelledFrame> frames;
  for (const Json& row : read_json_rows(file)) {
    const std::string where = str(file.string(), ": row ", frames.size() + 1, ": ");
    frames.push_back(read_frame(row, file.parent_path(), where));
  }
  return frames;
}

LaneScore score_lanes(const std::vector<Lane>& found, const LabelledFrame& label) {
  const std::size_t labelled = label.lanes.size();
  if (found.size() > labelled + 2) return {0, 0, 1};  // guesses are not measured

  double matched = 0, missed = 0, sum = 0, worst = 1;
  for (const Lane& lane : label.lanes) {
    const double tolerance = point_tolerance(lane, label.rows);
    double best = 0;
    for (const Lane& other : found)
      best = std::max(best, share_of_right_points(other, lane, tolerance));
    (best < kLaneFound ? missed : matched) += 1;
    sum += best;
    worst = std::min(worst, best);
  }

  const bool may_miss_one = labelled > kCountedLanes;
  if (may_miss_one) {
    sum -= worst;
    missed = std::max(missed - 1, 0.0);
  }
  const auto counted = static_cast<double>(std::clamp<std::size_t>(labelled, 1, kCountedLanes));
  const auto all = static_cast<double>(std::max<std::size_t>(found.size(), 1));
  return {sum / counted, (static_cast<double>(found.size()) - matched) / all, missed / counted};
}

std::vector<MetricResult> evaluate_lanes(const ForwardModel& model, const ForwardModel* reference,
                                         const LaneEvalSet& set, ExecContext& ctx) {
  const std::int64_t all = std::ssize(set.frames);
  const std::int64_t end = set.limit > 0 ? std::min(all, set.skip + set.limit) : all;
  require(set.skip < end, ErrorCode::kInvalidInput, "no frames left to evaluate: there are ", all);

  ScoredModel scored(model);
  std::optional<ScoredModel> compared;
  if (reference) {
    compared.emplace(*reference);
    require(compared->input() == scored.input(), ErrorCode::kInvalidInput,
            reference->model().dir.string(), ": reads images of another size than the model");
  }
  const FrameImages images(set.frames);
  for (std::int64_t begin = set.skip; begin < end; begin += set.batch) {
    const std::int64_t count = std::min(set.batch, end - begin);
    const auto frames =
        set.frames.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    const TokenBatch batch =
        read_image_batch(model.model(), images, begin, count, set.steps, ctx.pool);
    scored.add(batch, frames, ctx);
    if (compared) compared->add(batch, frames, ctx);
    ctx.progress("evaluate", begin + count - set.skip, end - set.skip);
  }

  std::vector<MetricResult> out;
  scored.append_means("", out);
  if (compared) compared->append_means("reference ", out);
  return out;
}

}  // namespace quell
