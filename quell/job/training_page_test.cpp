// The page of runs of training: one chart a metric with all runs in it, the best values marked.
#include "quell/job/training_page.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/job/line_chart.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

constexpr const char* kFirstRun =
    R"({"step": 10, "loss": 3.5, "logits": 2, "hidden_states": 1.5, "learning_rate": 2e-05, "gradient_norm": 4}
{"step": 20, "loss": 2.5, "logits": 1.5, "hidden_states": 1, "learning_rate": 1e-05, "gradient_norm": 3}
{"step": 20, "eval": {"spearman": 80.25, "perplexity": 40.5}, "diagnostics": {"maps.ranking_loss": 0.5}}
{"step": 30, "loss": 2.75, "logits": 1.5, "hidden_states": 1.25, "learning_rate": 0, "gradient_norm": 2}
{"step": 30, "eval": {"spearman": 79.5, "perplexity": 42.5}, "diagnostics": {"maps.ranking_loss": 0.25}}
)";
constexpr const char* kSecondRun =
    R"({"step": 10, "loss": 4.5, "attention_maps": 1, "learning_rate": 2e-05, "gradient_norm": 5}
{"step": 20, "loss": 1.5, "attention_maps": 2, "learning_rate": 1e-05, "gradient_norm": 6}
{"step": 20, "eval": {"spearman": 81.75, "perplexity": 35.25}}
{"step": 30, "lo)";

class TrainingPageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("quell-training-page-" + std::to_string(::getpid()));
    write("lsq.training", kFirstRun);
    write("a<b>&c/training", kSecondRun);
  }
  void TearDown() override { fs::remove_all(dir_); }

  void write(const std::string& folder, const std::string& text) const {
    fs::create_directories(dir_ / folder);
    std::ofstream(dir_ / folder / "metrics.jsonl") << text;
  }
  TrainingReport report(const std::vector<std::string>& names) const {
    std::vector<fs::path> runs;
    for (const std::string& name : names) runs.push_back(dir_ / name);
    return {read_training_runs(runs)};
  }

  fs::path dir_;
};

std::size_t times_in(const std::string& text, const std::string& word) {
  std::size_t count = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1))
    ++count;
  return count;
}

/// From the title of a chart to its end.
std::string chart_of(const std::string& page, const std::string& title) {
  const std::size_t begin = page.find("<figcaption>" + title + "</figcaption>");
  if (begin == std::string::npos) return "";
  return page.substr(begin, page.find("</figure>", begin) - begin);
}

TEST_F(TrainingPageTest, OfOneRunTermsLieBesideTheirSum) {
  const std::string page = report({"lsq.training"}).to_html();
  EXPECT_EQ(times_in(page, "<figure>"), 6U) << "loss, two metrics, rate, norm and a diagnostic";
  EXPECT_EQ(times_in(page, "<polyline"), 8U);

  const std::string loss = chart_of(page, "loss");
  EXPECT_EQ(times_in(loss, "<polyline class=\"curve c0\""), 1U);
  EXPECT_EQ(times_in(loss, "<polyline class=\"curve c1 thin\""), 1U);
  EXPECT_EQ(times_in(loss, "<polyline class=\"curve c2 thin\""), 1U);
  for (const char* name : {"logits", "hidden_states"})
    EXPECT_EQ(times_in(loss, std::string("<title>") + name), 1U);
  EXPECT_NE(loss.find("<td>2.75</td><td>2.5 <span class=soft>at 20</span></td>"), std::string::npos)
      << loss;
}

TEST_F(TrainingPageTest, OfTwoRunsEveryMetricIsOneChart) {
  const std::string page = report({"lsq.training", "a<b>&c"}).to_html();
  EXPECT_EQ(times_in(page, "<figure>"), 9U) << "of each of the three terms one more";
  for (const char* metric : {"loss", "learning_rate", "gradient_norm"})
    EXPECT_EQ(times_in(chart_of(page, metric), "<polyline"), 2U) << metric;
  for (const char* term : {"loss: logits", "loss: hidden_states", "loss: attention_maps"})
    EXPECT_EQ(times_in(chart_of(page, term), "<polyline"), 1U) << term;

  // Evaluated once, the second run is a dot.
  EXPECT_EQ(times_in(chart_of(page, "spearman"), "<polyline"), 1U);
  EXPECT_EQ(times_in(chart_of(page, "spearman"), "<circle class=\"dot c1\""), 1U);
  EXPECT_EQ(times_in(chart_of(page, "spearman"), "class=\"key\""), 2U) << "the legend";

  EXPECT_EQ(page.find("a<b>"), std::string::npos);
  EXPECT_NE(page.find("<title>Training: lsq, a&lt;b&gt;&amp;c</title>"), std::string::npos);
  EXPECT_NE(page.find("without its last line, which is half written"), std::string::npos);
}

TEST_F(TrainingPageTest, TheBestIsMarked) {
  const std::string page = report({"lsq.training", "a<b>&c"}).to_html();
  const std::string spearman = chart_of(page, "spearman"),
                    perplexity = chart_of(page, "perplexity");
  EXPECT_NE(spearman.find("<title>lsq, step 20: 80.25</title>"), std::string::npos) << spearman;
  EXPECT_NE(spearman.find("step 20: 81.75</title>"), std::string::npos);
  EXPECT_NE(perplexity.find("<title>lsq, step 20: 40.5</title>"), std::string::npos);
  EXPECT_EQ(times_in(page, "class=\"ring "), 4U) << "of what is evaluated, by run";

  // The better run in the table of all of them.
  EXPECT_NE(page.find("<td><b>81.75</b> "), std::string::npos);
  EXPECT_NE(page.find("<td><b>35.25</b> "), std::string::npos);
  EXPECT_EQ(times_in(page, "<td><b>"), 2U);

  const std::string alone = chart_of(report({"lsq.training"}).to_html(), "spearman");
  EXPECT_NE(alone.find(">best: 80.25</text>"), std::string::npos) << alone;
}

TEST_F(TrainingPageTest, ThePageStandsAloneAndStaysSmall) {
  std::string text;
  for (int step = 1; step <= 20000; ++step)
    text +=
        "{\"step\": " + std::to_string(step) + ", \"loss\": " + std::to_string(1.0 / step) + "}\n";
  write("long", text);
  const std::string page = report({"long"}).to_html();
  EXPECT_LT(page.size(), 20 * kMostChartPoints + 20000);
  EXPECT_NE(chart_of(page, "loss").find("logarithmic"), std::string::npos);
  for (const char* outside : {"http:", "https:", "<script", "<link", "url("})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  EXPECT_NE(page.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_NE(page.find("</html>"), std::string::npos);
  EXPECT_EQ(page.find("Evaluation"), std::string::npos) << "nothing was evaluated";
  EXPECT_EQ(page.find("Terms"), std::string::npos) << "the loss has none";
}

TEST_F(TrainingPageTest, NumbersForOtherPrograms) {
  write("nan", "{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": null}\n");
  const Json json = report({"lsq.training", "nan"}).to_json();
  const Json& lsq = json["runs"][0];
  EXPECT_EQ(lsq["run"], "lsq");
  EXPECT_EQ(lsq["steps"], 30);
  EXPECT_EQ(lsq["evaluated"]["perplexity"]["best"], 40.5);
  EXPECT_EQ(lsq["evaluated"]["perplexity"]["best_step"], 20);
  EXPECT_EQ(lsq["evaluated"]["spearman"]["last"], 79.5);
  EXPECT_EQ(lsq["training"]["loss"]["best"], 2.5);
  EXPECT_FALSE(lsq["training"]["learning_rate"].contains("best"));
  EXPECT_TRUE(json["runs"][1]["training"]["loss"]["last"].is_null());
  EXPECT_EQ(json["runs"][1]["training"]["loss"]["best"], 2);

  EXPECT_EQ(report({"lsq.training"}).to_text(),
            "lsq: step 30, loss 2.75, best perplexity 40.5 at step 20, best spearman 80.25 at step "
            "20\n");
}

TEST_F(TrainingPageTest, TheJobWritesThePageAndKeepsWhatItReads) {
  run_training_report_job(
      {.runs = {dir_ / "lsq.training"}, .page = dir_ / "lsq.training/page.html"});
  EXPECT_NE(read_text_file(dir_ / "lsq.training/page.html").find("</html>"), std::string::npos);

  const fs::path metrics = dir_ / "lsq.training/metrics.jsonl";
  EXPECT_THROW(run_training_report_job({.runs = {dir_ / "lsq.training"}, .page = metrics}), Error);
  EXPECT_EQ(read_text_file(metrics), kFirstRun);
  EXPECT_THROW(run_training_report_job({.runs = {dir_ / "none"}, .page = dir_ / "p.html"}), Error);
  EXPECT_FALSE(fs::exists(dir_ / "p.html"));
}

}  // namespace
}  // namespace quell
