// Lanes by hand: a curve that is a straight line, and a grid of four cells.
#include "quell/engine/lane_decoder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/model/family.h"

namespace quell {
namespace {

using NamedValues = std::map<std::string, Tensor>;

std::string lane_refusal(const LaneDecoder& decoder, const LaneOutputs& outputs) {
  try {
    decoder.decode(outputs, 0, {{100, 200}, {50}});
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

/// Of two images with two queries each; only one lane is in either.
NamedValues two_images_with_curves() {
  NamedValues values;
  const std::vector<float> logits = {2, 1, 0, /**/ 0, 3, 1,  //
                                     1, 2, 0, /**/ 0, 1, 5};
  values["pred_logits"] = Tensor::from<float>(logits, {4, 3});
  // The second query: x = 0.25 + 0.5 y - 0.125 between 0.3 and 0.6. The third: a pole at y = 0.5.
  const std::vector<float> curves = {0,    0,    0,     0,    0, 0,     0,    0,       //
                                     0.3F, 0.6F, 0,     0.9F, 0, 0.25F, 0.5F, 0.125F,  //
                                     0,    1,    0.01F, 0.5F, 2, 1,     0,    0.5F,    //
                                     0,    0,    0,     0,    0, 0,     0,    0};
  values["pred_curves"] = Tensor::from<float>(curves, {4, 8});
  return values;
}

TEST(CurveLanes, FollowTheCurveBetweenItsRows) {
  const NamedValues values = two_images_with_curves();
  const LaneOutputs outputs = {.values = values, .images = 2, .source = "model"};
  const LaneRows rows = {{100, 200}, {20, 40, 61, 70}};

  const std::vector<Lane> first = k_curve_lanes.decode(outputs, 0, rows);
  ASSERT_EQ(first.size(), 1U) << "the other query is no lane";
  EXPECT_EQ(first[0][0], kNoPoint);
  EXPECT_NEAR(first[0][1], 200 * (0.125 + 0.2), 1e-4);
  EXPECT_EQ(first[0][2], kNoPoint);
  EXPECT_EQ(first[0][3], kNoPoint);

  const std::vector<Lane> second = k_curve_lanes.decode(outputs, 1, rows);
  ASSERT_EQ(second.size(), 1U);
  EXPECT_NEAR(second[0][1], 200 * (0.01 / 0.01 + 2 / -0.1 + 0.5), 1e-3);
  EXPECT_NEAR(second[0][3], 200 * (0.01 / 0.04 + 2 / 0.2 + 0.5), 1e-3);
}

TEST(CurveLanes, OutputsOfOtherSizesAreRefused) {
  NamedValues values = two_images_with_curves();
  values["pred_curves"] = Tensor::f32({4, 7});
  const std::string said =
      lane_refusal(k_curve_lanes, {.values = values, .images = 2, .source = "model"});
  EXPECT_TRUE(said.starts_with("model: pred_logits is 4 x 3 and pred_curves 4 x 7")) << said;
  values["pred_curves"] = Tensor::f32({4, 8});
  const std::string odd =
      lane_refusal(k_curve_lanes, {.values = values, .images = 3, .source = "model"});
  EXPECT_NE(odd.find("for each query of 3 images"), std::string::npos) << odd;
}

/// Two images, each of 3 x 2 cells, and two lanes.
NamedValues two_images_with_grids() {
  NamedValues values;
  Tensor scores = Tensor::f32({2 * 3 * 2, 2});
  Tensor offset = Tensor::f32({2 * 3 * 2, 2});
  Tensor is_there = Tensor::f32({2 * 3, 2});

  // The second image, its second lane: rows 0 and 2, in the columns 1 and 0.
  scores.row(6 + 1)[1] = 3;
  offset.row(6 + 1)[1] = 0.5F;
  is_there.row(3 + 0)[1] = 0.5F;
  offset.row(6 + 4)[1] = 0.25F;  // no score is higher than the other: the first column
  is_there.row(3 + 2)[1] = 1;
  // Its first lane is in one row only.
  is_there.row(3 + 1)[0] = 0.9F;

  values["cls"] = std::move(scores);
  values["offset"] = std::move(offset);
  values["vertical"] = std::move(is_there);
  return values;
}

TEST(GridLanes, AreStraightBetweenRowsOfCells) {
  const NamedValues values = two_images_with_grids();
  const LaneOutputs outputs = {.values = values, .images = 2, .input = {12, 16}, .source = "model"};
  // Cells are 4 rows high: in a frame of 120 rows, points lie at 1.5 and 9.5 twelfths of it.
  const LaneRows rows = {{120, 160}, {14, 15, 40, 95, 96}};
  EXPECT_TRUE(k_grid_lanes.decode(outputs, 0, rows).empty());

  const std::vector<Lane> lanes = k_grid_lanes.decode(outputs, 1, rows);
  ASSERT_EQ(lanes.size(), 1U) << "one point is no lane";
  const double first = 160 * 1.5 / 2, last = 160 * 0.25 / 2;
  const double between = first + (last - first) * (40.0 - 15) / (95 - 15);
  EXPECT_EQ(lanes[0], (Lane{kNoPoint, first, std::nearbyint(between), last, kNoPoint}));
}

TEST(GridLanes, OutputsOfOtherSizesAreRefused) {
  NamedValues values = two_images_with_grids();
  LaneOutputs outputs = {.values = values, .images = 2, .input = {12, 16}, .source = "model"};
  values["offset"] = Tensor::f32({12, 3});
  const std::string said = lane_refusal(k_grid_lanes, outputs);
  EXPECT_TRUE(said.starts_with("model: cls is 12 x 2, vertical 6 x 2, offset 12 x 3")) << said;

  values["offset"] = Tensor::f32({12, 2});
  outputs.images = 4;
  EXPECT_NE(lane_refusal(k_grid_lanes, outputs), "accepted");
  outputs.images = 2;
  outputs.input = {13, 16};
  EXPECT_NE(lane_refusal(k_grid_lanes, outputs), "accepted") << "rows of cells of no whole height";
  outputs.input = {12, 16};
  EXPECT_EQ(lane_refusal(k_grid_lanes, outputs), "accepted");
}

Model model_with_outputs(const std::vector<std::string>& names) {
  ModelBuilder g;
  g.spec.model_type = "means";
  g.spec.max_position_embeddings = 1;
  const ValueId mean = g.node(op_global_mean, {g.image({.channels = 3, .size = {2, 2}})});
  g.hidden_state(mean);
  for (const std::string& name : names) g.output(name, mean);
  return make_model({g.spec, g.take()}, {});
}

TEST(LaneDecoder, FollowsFromTheNamesOfOutputs) {
  const Model curves = model_with_outputs({"last_hidden_state", "pred_logits", "pred_curves"});
  EXPECT_EQ(&find_lane_decoder(curves), &k_curve_lanes);
  const Model grid = model_with_outputs({"offset", "vertical", "cls"});
  EXPECT_EQ(&find_lane_decoder(grid), &k_grid_lanes);

  const Model other = model_with_outputs({"drivable", "pred_logits"});
  try {
    find_lane_decoder(other);
    FAIL();
  } catch (const Error& e) {
    const std::string message = e.what();
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_NE(message.find("outputs drivable, pred_logits are no lanes"), std::string::npos)
        << message;
    EXPECT_NE(message.find("pred_logits, pred_curves (LSTR); cls, vertical, offset (QuantLaneNet)"),
              std::string::npos)
        << message;
  }
}

}  // namespace
}  // namespace quell
