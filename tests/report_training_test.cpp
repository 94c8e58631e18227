// `quell report --training`: what belongs together on the command line, and what is refused.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

using quell::testing::CommandResult;
using quell::testing::run_shell;

class ReportTraining : public ::testing::Test {
 protected:
  void write(const std::string& folder, const std::string& text) const {
    fs::create_directories(dir_ / folder);
    std::ofstream(dir_ / folder / "metrics.jsonl") << text;
  }
  void SetUp() override {
    write("lsq.training", "{\"step\": 10, \"loss\": 2}\n{\"step\": 20, \"loss\": 1}\n");
    write("twn/training", "{\"step\": 10, \"loss\": 3}\n{\"eval\": {\"f1\": 70}, \"step\": 10}\n");
    write("damaged", "{\"step\": 10, \"lo\n{\"step\": 20, \"loss\": 1}\n");
  }
  CommandResult report(const std::string& arguments) const {
    return run_shell("$QUELL report " + arguments, dir_.path());
  }
  void expect_refused(const std::string& arguments, int code, const std::string& words) const {
    quell::testing::expect_one_line_error(report(arguments), code, words, arguments);
    EXPECT_FALSE(fs::exists(dir_ / "p.html")) << arguments;
  }

  quell::testing::ScratchDir dir_;
};

TEST_F(ReportTraining, DrawsRunsIntoOnePage) {
  const CommandResult r = report("--training lsq.training twn --output p.html --json numbers.json");
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(r.out,
            "lsq: step 20, loss 1\ntwn: step 10, loss 3, best f1 70 at step 10\nwrote p.html\n");
  EXPECT_NE(read_text_file(dir_ / "p.html").find("<h1>Training: lsq, twn</h1>"), std::string::npos);
  EXPECT_EQ(read_json_file(dir_ / "numbers.json")["runs"][1]["evaluated"]["f1"]["best"], 70);

  const CommandResult page = report("--training twn --output /dev/stdout");
  EXPECT_EQ(page.out.find("<!doctype html>"), 0U) << "the page, and nothing else";
  EXPECT_TRUE(page.out.ends_with("</html>\n"));
}

TEST_F(ReportTraining, TakesNothingThatBelongsToAModel) {
  expect_refused("--training twn --output p.html --recipe best", 2, "--recipe: goes with a model");
  expect_refused("$REVIEWS/model --training twn --output p.html", 2, "model: goes with a model");
  expect_refused("--training twn", 2, "--output is required");
  expect_refused("$REVIEWS/model p.html", 2, "--calibration is required");
  expect_refused("--output p.html --calibration $REVIEWS/calibration.tsv", 2, "model is required");
}

TEST_F(ReportTraining, BadRunsAreRefused) {
  expect_refused("--training damaged --output p.html", 1, "damaged/metrics.jsonl:1: ");
  expect_refused("--training none --output p.html", 1, "none");
  expect_refused("--training . --output p.html", 1, "holds neither metrics.jsonl");
  expect_refused("--training '' --output p.html", 2, "path is empty");
  expect_refused("--training twn twn/training --output p.html", 2, "name each run once");
  expect_refused("--training twn --output twn/training/metrics.jsonl", 2, "would replace");
}

}  // namespace
}  // namespace quell
