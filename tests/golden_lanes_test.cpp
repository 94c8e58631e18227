// Lane detectors from frames to scores: LSTR on every frame of every recorded case, and both
// networks through the job behind `quell eval --task lane-detection`.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "quell/base/error.h"
#include "quell/eval/lane_detection.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/job/eval_job.h"
#include "quell/model/image_input.h"
#include "quell/vision/decode_image.h"
#include "quell/vision/preprocessor_config.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

std::vector<std::string> lstr_cases() {
  std::vector<std::string> cases;
  for (const std::string& folder : quell::testing::case_folders("golden/vision"))
    if (folder.starts_with("lstr") && folder.ends_with("forward")) cases.push_back(folder);
  if (cases.empty()) cases.emplace_back("none-forward");
  return cases;
}

/// What stands between `before` and the next of `ends` in a sentence of the case.
std::string text_between(const std::string& text, const std::string& before, const char* ends) {
  const std::size_t at = text.find(before);
  require(at != std::string::npos, ErrorCode::kInvalidInput, "the case does not say ", before);
  const std::size_t begin = at + before.size();
  return text.substr(begin, text.find_first_of(ends, begin) - begin);
}

/// The file's name, which is all that scores of frames are recorded with.
const LabelledFrame* find_frame(const std::vector<LabelledFrame>& frames, const std::string& name) {
  for (const LabelledFrame& frame : frames)
    if (frame.image.filename() == name) return &frame;
  return nullptr;
}

class GoldenVisionLstrFrames : public ::testing::TestWithParam<std::string> {
 protected:
  /// LSTR as the case says: with its weights, and its size of images ("1280x720 -> 640x360 by").
  Model load(const fs::path& models) {
    const std::string folder = "models/lstr-lane/";
    weights_ = text_between(case_["what"], folder, ",) ");
    const std::string size = text_between(case_["preprocess"], "-> ", " ");
    const std::size_t x = size.find('x');
    fs::create_symlink(fs::absolute(models / weights_), scratch_ / "model.safetensors");
    Json settings = read_json_file(models / "LSTR.json");
    settings["db"]["input_size"] = {std::stoi(size.substr(x + 1)), std::stoi(size.substr(0, x))};
    std::ofstream(scratch_ / "LSTR.json") << settings.dump();
    return load_model(Checkpoint::open(scratch_.path()));
  }

  /// The outputs for one frame, prepared as the model's directory says.
  ForwardOutputs outputs_of(const ForwardModel& model, const fs::path& frame, ExecContext& ctx) {
    const Preprocessing steps = read_preprocessing(scratch_.path());
    const PixelValues read = preprocess(read_image(frame), steps, frame.string());
    std::vector<float> planes;
    for (std::int64_t c = 0; c < read.values.cols(); ++c)
      for (std::int64_t r = 0; r < read.values.rows(); ++r) planes.push_back(read.values.row(r)[c]);
    ForwardOutputs outputs;
    model.forward(make_image_batch(model.model(), std::move(planes)), outputs, ctx);
    return outputs;
  }

  /// 1e-3 and 1e-3 of the value.
  static void expect_output(const Tensor& ours, const TensorView& recorded, std::int64_t frame,
                            const std::string& what) {
    const std::int64_t size = recorded.numel() / recorded.shape()[0];
    ASSERT_EQ(ours.numel(), size) << what;
    for (std::int64_t i = 0; i < size; ++i) {
      const float want = recorded.f32()[static_cast<std::size_t>(frame * size + i)];
      EXPECT_NEAR(ours.f32()[static_cast<std::size_t>(i)], want, 1e-3 + 1e-3 * std::fabs(want))
          << what << ' ' << i;
    }
  }

  /// Half a pixel; `lanes` [query, row], -3 where a query is no lane.
  static void expect_lanes(const std::vector<Lane>& ours, std::span<const float> lanes,
                           std::int64_t queries, const std::string& what) {
    constexpr float kIsNoLane = -3;
    const std::size_t rows = lanes.size() / static_cast<std::size_t>(queries);
    std::size_t next = 0;
    for (std::size_t q = 0; q < static_cast<std::size_t>(queries); ++q) {
      if (lanes[q * rows] == kIsNoLane) continue;
      ASSERT_LT(next, ours.size()) << what;
      for (std::size_t r = 0; r < rows; ++r)
        EXPECT_NEAR(ours[next][r], lanes[q * rows + r], 0.5) << what << " query " << q << ' ' << r;
      ++next;
    }
    EXPECT_EQ(next, ours.size()) << what;
  }

  /// Rows of the benchmark whose weights they are.
  bool is_culane() const { return weights_.find("culane") != std::string::npos; }

  LaneRows rows_of(std::int64_t count) const {
    LaneRows rows;
    rows.frame = is_culane() ? ImageSize{590, 1640} : kLaneFrame;
    for (int i = 0; i < static_cast<int>(count); ++i)
      rows.y.push_back(is_culane() ? 589 - 20 * i : 160 + 10 * i);
    return rows;
  }

  /// CULane's rule, which its recorded lanes have: from the second number of the curve down, inside
  /// of the image, else 0.
  static std::vector<Lane> culane_lanes(const ForwardOutputs& outputs, const LaneRows& rows) {
    std::map<std::string, Tensor> values;
    values["pred_logits"] = Tensor::copy_of(outputs.values.at("pred_logits"));
    Tensor& curves = values["pred_curves"] = Tensor::copy_of(outputs.values.at("pred_curves"));
    for (std::int64_t q = 0; q < curves.rows(); ++q) {
      curves.row(q)[0] = curves.row(q)[1];
      curves.row(q)[1] = 1;
    }
    std::vector<Lane> lanes = k_curve_lanes.decode({.values = values, .images = 1}, 0, rows);
    for (Lane& lane : lanes)
      for (double& x : lane)
        if (x < 0 || x >= static_cast<double>(rows.frame.width)) x = 0;
    return lanes;
  }

  void expect_score(const std::vector<Lane>& lanes, const std::string& name) {
    for (const Json& scored : case_.value("metric_per_labelled_frame", Json::array())) {
      if (scored["frame"] != name) continue;
      const fs::path labels = quell::testing::find_data(kLabels);
      ASSERT_FALSE(labels.empty()) << kLabels;
      const std::vector<LabelledFrame> frames = read_lane_labels(labels);
      const LabelledFrame* frame = find_frame(frames, name);
      ASSERT_NE(frame, nullptr) << name;
      const LaneScore score = score_lanes(lanes, *frame);
      EXPECT_NEAR(score.accuracy, scored["accuracy"].get<double>(), 1e-12) << name;
      EXPECT_NEAR(score.false_positives, scored["fp"].get<double>(), 1e-12) << name;
      EXPECT_NEAR(score.false_negatives, scored["fn"].get<double>(), 1e-12) << name;
      ++scored_;
    }
  }

  static constexpr const char* kLabels = "data/vision/tusimple-labelled/labels.jsonl";
  Json case_;
  std::string weights_;
  std::size_t scored_ = 0;
  quell::testing::ScratchDir scratch_;
};

TEST_P(GoldenVisionLstrFrames, OutputsLanesAndScoresEqualTheReference) {
  QUELL_NEED_DATA(dir, "golden/vision/" + GetParam());
  QUELL_NEED_DATA(models, "models/lstr-lane");
  case_ = read_json_file(dir / "case.json");
  const Model model = load(models);
  const auto engine = make_float_model(model);
  const SafetensorsFile expected(dir / "expected.safetensors");
  const TensorView& lanes = expected.at("lanes");
  ASSERT_EQ(static_cast<std::size_t>(lanes.shape()[0]), case_["frames"].size());

  ExecContext ctx(2);
  std::int64_t number = 0;
  for (const std::string frame : case_["frames"]) {
    QUELL_NEED_DATA(file, frame);
    const ForwardOutputs outputs = outputs_of(*engine, file, ctx);
    for (const char* name : {"pred_logits", "pred_curves"})
      expect_output(outputs.values.at(name), expected.at(name), number, frame + " " + name);

    const std::int64_t queries = lanes.shape()[1];
    const std::size_t size = static_cast<std::size_t>(queries * lanes.shape()[2]);
    const std::span<const float> want =
        lanes.f32().subspan(static_cast<std::size_t>(number) * size, size);
    const LaneRows rows = rows_of(lanes.shape()[2]);
    if (is_culane()) {
      expect_lanes(culane_lanes(outputs, rows), want, queries, frame);
    } else {
      const std::vector<Lane> found =
          find_lane_decoder(model).decode({.values = outputs.values, .images = 1}, 0, rows);
      expect_lanes(found, want, queries, frame);
      expect_score(found, file.filename());
    }
    ++number;
  }
  EXPECT_EQ(scored_, case_.value("metric_per_labelled_frame", Json::array()).size());
}

INSTANTIATE_TEST_SUITE_P(AllCases, GoldenVisionLstrFrames, ::testing::ValuesIn(lstr_cases()),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

std::map<std::string, double> lane_scores(const EvalJob& job) {
  ExecContext ctx(2);
  std::map<std::string, double> values;
  for (const ReportRow& row : run_eval_job(job, ctx).rows)
    values[row.result.metric] = row.result.value;
  return values;
}

EvalJob lane_job(const fs::path& model, const fs::path& labels) {
  EvalJob job;
  job.model_dir = ModelDirectory(model);
  job.options.task = kLaneDetection;
  job.data.file = labels;
  return job;
}

TEST(GoldenVisionLaneScores, LstrOnLabelledFrames) {
  QUELL_NEED_DATA(golden, "golden/vision/lstr-forward/case.json");
  QUELL_NEED_DATA(model, "models/lstr-lane");
  QUELL_NEED_DATA(labels, "data/vision/tusimple-labelled/labels.jsonl");
  const Json mean = read_json_file(golden)["metric_mean"];
  EvalJob job = lane_job(model, labels);
  const auto scores = lane_scores(job);
  EXPECT_NEAR(scores.at("accuracy"), 100 * mean[0].get<double>(), 1e-9);
  EXPECT_NEAR(scores.at("fp"), 100 * mean[1].get<double>(), 1e-9);
  EXPECT_NEAR(scores.at("fn"), 100 * mean[2].get<double>(), 1e-9);

  // The third frame alone, which has its score, beside the same model.
  job.options.skip = 2;
  job.options.limit = 1;
  job.reference_dir = model;
  const auto third = lane_scores(job);
  const Json recorded = read_json_file(golden)["metric_per_labelled_frame"][2];
  EXPECT_NEAR(third.at("accuracy"), 100 * recorded["accuracy"].get<double>(), 1e-9);
  EXPECT_EQ(third.at("reference accuracy"), third.at("accuracy"));
}

TEST(GoldenVisionLaneScores, QuantLaneNetOnLabelledFrames) {
  QUELL_NEED_DATA(model, "models/quantlanenet");
  QUELL_NEED_DATA(labels, "data/vision/tusimple-labelled/labels.jsonl");
  const Json measured = read_json_file(model / "config.json")["_measured"]["tusimple_8_frames"];
  const auto scores = lane_scores(lane_job(model, labels));
  for (const char* name : {"accuracy", "fp", "fn"})
    EXPECT_NEAR(scores.at(name), 100 * measured[name].get<double>(), 6e-4) << name;
}

/// A network whose only parameters are a convolution that gives these outputs.
class LaneDetection : public ::testing::Test {
 protected:
  void write_model(const std::vector<std::string>& outputs) {
    Json graph = Json::array();
    for (const std::string& name : outputs)
      graph.push_back({{"op", "conv"},
                       {"inp", {"x"}},
                       {"out", name},
                       {"weight", "w.weight"},
                       {"stride", {1, 1}},
                       {"pad", {0, 0, 0, 0}}});
    const Json config = {{"input", {3, 8, 8}},
                         {"preprocess", {{"scale", "divide by 255"}, {"resize", "INTER_AREA"}}},
                         {"graph", graph}};
    std::ofstream(dir_ / "config.json") << config.dump();
    const Tensor weight = Tensor::f32({2, 3, 1, 1});
    write_safetensors(dir_ / "model.safetensors", {{"w.weight", weight}});
  }

  void expect_refusal(const std::string& row, const std::string& words,
                      const std::string& options = "", int code = 1) {
    std::ofstream(dir_ / "labels.jsonl") << row << '\n';
    const std::string command = "eval " + dir_.path().string() + " --task lane-detection --data " +
                                (dir_ / "labels.jsonl").string() + ' ' + options;
    quell::testing::expect_one_line_error(quell::testing::run_quell(command), code, words, command);
  }

  static constexpr const char* kRow =
      R"({"raw_file": "0.png", "h_samples": [160, 170], "lanes": [[1, 2]]})";
  quell::testing::ScratchDir dir_;
};

TEST_F(LaneDetection, SaysInOneLineWhatIsWrong) {
  write_model({"cls", "vertical", "offset"});
  expect_refusal(kRow, "0.png: ");
  expect_refusal(std::string(kRow).substr(0, 50), "labels.jsonl:1");
  expect_refusal(R"({"raw_file": "0.png", "h_samples": [160], "lanes": [[1, 2]]})",
                 "row 1: lane 1 has 2 points");
  expect_refusal(kRow, "no frames left to evaluate: there are 1", "--skip 1");
  expect_refusal(kRow, "--labels: goes with --task image-classification",
                 "--labels " + (dir_ / "labels.jsonl").string(), 2);

  fs::copy_file(quell::testing::find_data("golden/images/files/rgb.png"), dir_ / "0.png");
  expect_refusal(kRow, "pixels; lanes are labelled in frames of 1280 x 720");
  std::ofstream(dir_ / "0.png") << "no image";
  expect_refusal(kRow, "0.png: ");

  write_model({"lanes", "road"});
  expect_refusal(kRow, "its outputs lanes, road are no lanes that are known");
}

TEST_F(LaneDetection, NeedsAModelOfImages) {
  std::ofstream(dir_ / "labels.jsonl") << kRow << '\n';
  const std::string command = "eval " + (quell::testing::kReviews / "model").string() +
                              " --task lane-detection --data " + (dir_ / "labels.jsonl").string();
  quell::testing::expect_one_line_error(quell::testing::run_quell(command), 2,
                                        "reads text, not images", command);
}

}  // namespace
}  // namespace quell
