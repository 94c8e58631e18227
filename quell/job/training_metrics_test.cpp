// Reading of metrics.jsonl: what a killed run leaves, and what is damaged.
#include "quell/job/training_metrics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>

#include "quell/base/error.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

constexpr const char* kTwoSteps =
    R"({"gradient_norm": 3.5, "learning_rate": 2e-05, "logits": 0.75, "loss": 1.5, "step": 10}
{"gradient_norm": 2.5, "learning_rate": 1e-05, "logits": 0.5, "loss": 1.25, "step": 20}
{"diagnostics": {"attention_maps.ranking_loss": 0.125}, "eval": {"pearson": 80.5}, "step": 20}
)";

class TrainingMetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("quell-training-metrics-" + std::to_string(::getpid()));
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  fs::path write(const fs::path& name, const std::string& text = kTwoSteps) const {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name) << text;
    return dir_ / name;
  }

  fs::path dir_;
};

std::string parse_error(const std::string& text) {
  try {
    parse_training_metrics(text, "m.jsonl");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidInput);
    return e.what();
  }
  return "";
}

std::string read_error(const std::vector<fs::path>& runs, ErrorCode code) {
  try {
    read_training_runs(runs);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  return "";
}

TEST_F(TrainingMetricsTest, CurvesByNameAndGroup) {
  const TrainingMetrics m = parse_training_metrics(kTwoSteps, "m.jsonl");
  EXPECT_EQ(m.last_step, 20);
  EXPECT_FALSE(m.torn);

  const MetricCurve* logits = m.curve(MetricGroup::kTraining, "logits");
  ASSERT_NE(logits, nullptr);
  ASSERT_EQ(logits->size(), 2U);
  EXPECT_EQ(logits->at(1).step, 20);
  EXPECT_EQ(logits->at(1).value, 0.5);

  ASSERT_NE(m.curve(MetricGroup::kEvaluated, "pearson"), nullptr);
  EXPECT_EQ(m.curve(MetricGroup::kEvaluated, "pearson")->front().value, 80.5);
  ASSERT_NE(m.curve(MetricGroup::kDiagnostics, "attention_maps.ranking_loss"), nullptr);
  EXPECT_EQ(m.curve(MetricGroup::kEvaluated, "logits"), nullptr);
  EXPECT_EQ(m.curves.at(MetricGroup::kTraining).size(), 4U);
}

TEST_F(TrainingMetricsTest, AHalfWrittenLastLineIsLeftOut) {
  const std::string next = R"({"step": 30, "loss": 1.125})";
  for (std::size_t length = 1; length < next.size(); ++length) {
    const TrainingMetrics m = parse_training_metrics(kTwoSteps + next.substr(0, length), "m.jsonl");
    EXPECT_TRUE(m.torn) << length;
    EXPECT_EQ(m.last_step, 20) << length;
  }
  const TrainingMetrics zeros =
      parse_training_metrics(kTwoSteps + std::string(40, '\0'), "m.jsonl");
  EXPECT_TRUE(zeros.torn) << "what a file system leaves of a line when the power fails";

  const TrainingMetrics whole = parse_training_metrics(kTwoSteps + next, "m.jsonl");
  EXPECT_FALSE(whole.torn) << "only its end is missing";
  EXPECT_EQ(whole.last_step, 30);
}

TEST_F(TrainingMetricsTest, DamagedLinesAreNamed) {
  const std::string begin = R"({"step": 10, "loss": 1})"
                            "\n";
  for (const char* damaged : {R"({"step": 20, "lo)", "[1, 2]", "20", R"({"step": 20, "loss": NaN})",
                              R"({"step": 20} {"step": 30})"})
    EXPECT_EQ(parse_error(begin + damaged + "\n" + begin),
              "m.jsonl:2: the line is damaged (no JSON object); take it out, or train again")
        << damaged;
  EXPECT_NE(parse_error(begin + "\n" + R"({"step": 20, "lo)" + "\n").find("m.jsonl:3: "),
            std::string::npos)
      << "lines without text count, and a line that ends is not half written";

  EXPECT_EQ(parse_error(begin + R"({"loss": 1})"), "m.jsonl:2: key \"step\" is missing");
  EXPECT_NE(parse_error(begin + R"({"step": 1.5})").find("m.jsonl:2: key \"step\""),
            std::string::npos);
  EXPECT_EQ(parse_error(begin + R"({"step": 20, "loss": "low"})"),
            "m.jsonl:2: key \"loss\": expected a number");
  EXPECT_EQ(parse_error(begin + R"({"step": 20, "eval": {"f1": [1]}})"),
            "m.jsonl:2: key \"f1\": expected a number");
  EXPECT_EQ(parse_error(begin + R"({"step": 20, "eval": 81})"),
            "m.jsonl:2: key \"eval\": expected an object of numbers");
  EXPECT_NE(parse_error(begin + R"({"step": 5, "loss": 1})").find("step 5 comes behind step 10"),
            std::string::npos);
}

TEST_F(TrainingMetricsTest, WithoutMetricsThereIsNothingToRead) {
  for (const char* text : {"", "\n\n", R"({"step": 10, "lo)", "{\"step\": 10}\n"})
    EXPECT_NE(parse_error(text).find("m.jsonl: holds no metrics yet"), std::string::npos) << text;
}

TEST_F(TrainingMetricsTest, WhatIsNoFiniteNumberIsAGap) {
  const TrainingMetrics m = parse_training_metrics(
      "{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": null}\n{\"step\": 3, \"loss\": 1}\n",
      "m.jsonl");
  const MetricCurve& loss = *m.curve(MetricGroup::kTraining, kLossMetric);
  ASSERT_EQ(loss.size(), 3U);
  EXPECT_TRUE(std::isnan(loss[1].value));
  EXPECT_EQ(best_point(loss, Better::kSmaller)->step, 3);
  EXPECT_EQ(best_point(loss, Better::kLarger)->step, 1);
  EXPECT_EQ(best_point(loss, Better::kNeither), nullptr);
  EXPECT_EQ(best_point({loss[1]}, Better::kLarger), nullptr);
}

TEST_F(TrainingMetricsTest, TheFirstOfTheBestCounts) {
  const MetricCurve curve = {{100, 80}, {200, 81}, {300, 81}, {400, 79}};
  EXPECT_EQ(best_point(curve, Better::kLarger)->step, 200);
  EXPECT_EQ(best_point(curve, Better::kSmaller)->step, 400);
}

TEST_F(TrainingMetricsTest, WhichValuesAreGood) {
  EXPECT_EQ(better_values(MetricGroup::kEvaluated, "spearman"), Better::kLarger);
  EXPECT_EQ(better_values(MetricGroup::kEvaluated, "word_perplexity"), Better::kSmaller);
  EXPECT_EQ(better_values(MetricGroup::kEvaluated, "loss"), Better::kSmaller);
  EXPECT_EQ(better_values(MetricGroup::kTraining, kLossMetric), Better::kSmaller);
  EXPECT_EQ(better_values(MetricGroup::kTraining, "hidden_states"), Better::kSmaller);
  EXPECT_EQ(better_values(MetricGroup::kTraining, kLearningRateMetric), Better::kNeither);
  EXPECT_EQ(better_values(MetricGroup::kTraining, kGradientNormMetric), Better::kNeither);
  EXPECT_EQ(better_values(MetricGroup::kDiagnostics, "maps.ranking_loss"), Better::kSmaller);
  EXPECT_EQ(better_values(MetricGroup::kDiagnostics, "maps.cover_length"), Better::kNeither);
}

TEST_F(TrainingMetricsTest, RunsAreFoldersModelsOrFiles) {
  write("lsq.training/metrics.jsonl");
  write("twn/training/metrics.jsonl");
  const std::vector<TrainingMetrics> runs =
      read_training_runs({dir_ / "lsq.training/", dir_ / "twn", write("old/pact.jsonl"),
                          write("laq/metrics.jsonl"), write("seq/training/metrics.jsonl")});
  ASSERT_EQ(runs.size(), 5U);
  EXPECT_EQ(runs[0].run, "lsq");
  EXPECT_EQ(runs[1].run, "twn");
  EXPECT_EQ(runs[1].file, dir_ / "twn/training/metrics.jsonl");
  EXPECT_EQ(runs[2].run, "pact");
  EXPECT_EQ(runs[3].run, "laq");
  EXPECT_EQ(runs[4].run, "seq");
}

TEST_F(TrainingMetricsTest, NamesThatTwoRunsShareAreWrittenOut) {
  write("a/out/training/metrics.jsonl");
  write("b/out.training/metrics.jsonl");
  write("c/metrics.jsonl");
  const std::vector<TrainingMetrics> runs =
      read_training_runs({dir_ / "a/out", dir_ / "b/out.training", dir_ / "c"});
  EXPECT_EQ(runs[0].run, (dir_ / "a/out").string());
  EXPECT_EQ(runs[1].run, (dir_ / "b/out.training").string());
  EXPECT_EQ(runs[2].run, "c");
}

TEST_F(TrainingMetricsTest, MissingFilesAndRunsThatComeTwiceAreRefused) {
  fs::create_directories(dir_ / "empty");
  EXPECT_NE(read_error({dir_ / "empty"}, ErrorCode::kIo)
                .find("empty: holds neither metrics.jsonl nor training/metrics.jsonl"),
            std::string::npos);
  EXPECT_NE(read_error({dir_ / "none.jsonl"}, ErrorCode::kIo).find("none.jsonl"),
            std::string::npos);

  write("out/training/metrics.jsonl");
  EXPECT_NE(
      read_error({dir_ / "out", dir_ / "out/training"}, ErrorCode::kUsage).find("the same run as"),
      std::string::npos);
}

}  // namespace
}  // namespace quell
