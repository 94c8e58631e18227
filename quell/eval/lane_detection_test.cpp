// TuSimple's metric by hand, and label files with mistakes.
#include "quell/eval/lane_detection.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "quell/base/error.h"
#include "tests/support/scratch_dir.h"

namespace quell {
namespace {

/// Ten rows ten pixels apart, with these lanes.
LabelledFrame frame_with(std::vector<Lane> lanes) {
  LabelledFrame frame;
  frame.rows.frame = kLaneFrame;
  for (int i = 0; i < 10; ++i) frame.rows.y.push_back(200 + 10 * i);
  frame.lanes = std::move(lanes);
  return frame;
}

/// A lane that moves `slope` columns a row; nothing in the first `absent` rows.
Lane lane_from(double x, double slope, std::size_t absent = 0) {
  Lane lane;
  for (int i = 0; i < 10; ++i) lane.push_back(x + slope * 10 * i);
  for (std::size_t i = 0; i < absent; ++i) lane[i] = kNoPoint;
  return lane;
}

void expect_score(const LaneScore& score, double accuracy, double fp, double fn) {
  EXPECT_NEAR(score.accuracy, accuracy, 1e-12);
  EXPECT_NEAR(score.false_positives, fp, 1e-12);
  EXPECT_NEAR(score.false_negatives, fn, 1e-12);
}

TEST(LaneScore, CountsPointsNearTheLane) {
  const LabelledFrame label = frame_with({lane_from(300, 0), lane_from(600, 0, 2)});
  expect_score(score_lanes(label.lanes, label), 1, 0, 0);

  // 20 pixels away is too far; absent in both is right.
  Lane near = lane_from(319.9, 0);
  near[4] = 320;
  expect_score(score_lanes({near, lane_from(600, 0, 2)}, label), (0.9 + 1) / 2, 0, 0);
  // Two points in ten: not found, and the lane that was found instead is none.
  Lane far = near;
  far[5] = 280;
  expect_score(score_lanes({far, lane_from(600, 0, 2)}, label), (0.8 + 1) / 2, 0.5, 0.5);
  // A point where the label has none is wrong, whichever side of the frame it lies on.
  expect_score(score_lanes({label.lanes[0], lane_from(600, 0, 1)}, label), (1 + 0.9) / 2, 0, 0);
  Lane left = lane_from(600, 0, 2);
  left[0] = -300;
  expect_score(score_lanes({label.lanes[0], left}, label), 1, 0, 0);
}

TEST(LaneScore, SteepLanesAreCrossedAtAnAngle) {
  const double slope = 3;
  const double tolerance = 20 * std::sqrt(1 + slope * slope);
  const LabelledFrame label = frame_with({lane_from(300, slope, 3)});
  expect_score(score_lanes({lane_from(300 + tolerance - 0.01, slope, 3)}, label), 1, 0, 0);
  expect_score(score_lanes({lane_from(300 + tolerance + 0.01, slope, 3)}, label), 0.3, 1, 1);
  // One point has no direction.
  const LabelledFrame point = frame_with({lane_from(300, slope, 9)});
  expect_score(score_lanes({lane_from(319, slope, 9)}, point), 1, 0, 0);
}

TEST(LaneScore, FewerAndMoreLanes) {
  const LabelledFrame none = frame_with({});
  expect_score(score_lanes({}, none), 0, 0, 0);
  expect_score(score_lanes({lane_from(1, 0)}, none), 0, 1, 0);

  const LabelledFrame one = frame_with({lane_from(300, 0)});
  expect_score(score_lanes({}, one), 0, 0, 1);
  const std::vector<Lane> three = {lane_from(300, 0), lane_from(500, 0), lane_from(700, 0)};
  expect_score(score_lanes(three, one), 1, 2.0 / 3, 0);
  std::vector<Lane> four = three;
  four.push_back(lane_from(900, 0));
  expect_score(score_lanes(four, one), 0, 0, 1);
}

TEST(LaneScore, OneOfMoreThanFourMayBeMissed) {
  std::vector<Lane> lanes;
  for (int i = 0; i < 5; ++i) lanes.push_back(lane_from(200 * i, 0));
  const LabelledFrame label = frame_with(lanes);
  expect_score(score_lanes(lanes, label), 1, 0, 0);
  lanes.pop_back();
  expect_score(score_lanes(lanes, label), 1, 0, 0);
  lanes.pop_back();
  expect_score(score_lanes(lanes, label), 3.0 / 4, 0, 1.0 / 4);
}

class LaneLabels : public ::testing::Test {
 protected:
  testing::ScratchDir dir_;
  std::filesystem::path file_ = dir_ / "lane_labels.jsonl";

  std::vector<LabelledFrame> read(const std::string& text) {
    std::ofstream(file_) << text;
    return read_lane_labels(file_);
  }

  std::string refusal(const std::string& text) {
    try {
      read(text);
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  }
};

TEST_F(LaneLabels, FramesLieBesideTheFile) {
  const auto frames = read(
      R"({"raw_file": "clips/1/20.jpg", "h_samples": [160, 170], "lanes": [[-2, 5], [7.5, 8]]})"
      "\n\n"
      R"({"raw_file": "clips/2/20.jpg", "image": "two.png", "h_samples": [719], "lanes": []})");
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[0].image, file_.parent_path() / "clips/1/20.jpg");
  EXPECT_EQ(frames[0].rows.y, (std::vector<double>{160, 170}));
  EXPECT_EQ(frames[0].lanes, (std::vector<Lane>{{-2, 5}, {7.5, 8}}));
  EXPECT_EQ(frames[1].image, file_.parent_path() / "two.png");
  EXPECT_TRUE(frames[1].lanes.empty());
}

TEST_F(LaneLabels, MistakesAreTold) {
  const std::string good = R"({"raw_file": "a.jpg", "h_samples": [160, 170], "lanes": [[1, 2]]})";
  const auto expect = [&](const std::string& row, const std::string& words) {
    const std::string said = refusal(good + "\n" + row);
    EXPECT_NE(said.find(file_.string()), std::string::npos) << said;
    EXPECT_NE(said.find(words), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  };
  expect(good.substr(0, 40), ":2");
  expect("[1]", ":2: not an object");
  expect(R"({"h_samples": [160], "lanes": [[1]]})", R"(row 2: neither "image" nor "raw_file")");
  expect(R"({"raw_file": 3, "h_samples": [160], "lanes": [[1]]})", "row 2: neither");
  expect(R"({"raw_file": "a.jpg", "lanes": [[1]]})", R"(row 2: "h_samples" is not a list)");
  expect(R"({"raw_file": "a.jpg", "h_samples": [], "lanes": []})", R"("h_samples" is empty)");
  expect(R"({"raw_file": "a.jpg", "h_samples": [720], "lanes": [[1]]})",
         R"("h_samples" holds 720; expected numbers from 0 to 719)");
  expect(R"({"raw_file": "a.jpg", "h_samples": [160]})", R"(row 2: "lanes" is not a list)");
  expect(R"({"raw_file": "a.jpg", "h_samples": [160], "lanes": [[1], ["x"]]})",
         R"(row 2: lane 2 holds "x")");
  expect(R"({"raw_file": "a.jpg", "h_samples": [160], "lanes": [[1], [1, 2]]})",
         R"(row 2: lane 2 has 2 points, and there are 1 rows in "h_samples")");
}

}  // namespace
}  // namespace quell
