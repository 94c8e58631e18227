// `quell report`: it finds the site that was made to hurt, and its page stands alone.
#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"
#include "quell/job/site_report.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

using quell::testing::kReviews;

SiteReportJob make_job(const fs::path& model, const fs::path& page, const std::string& scheme) {
  SiteReportJob job;
  job.model_dir = model;
  job.page = page;
  job.recipe = load_recipe("minmax");
  set_scheme(job.recipe, scheme);
  job.calibration.data.file = kReviews / "calibration.tsv";
  job.calibration.num_samples = 48;
  job.num_samples = 16;
  return job;
}

/// The example with one channel of layer 1's values 400 times larger, and the weights that read it
/// 400 times smaller: the same function, but an outlier in front of out_proj.
void write_model_with_outlier(const fs::path& dir, std::int64_t channel) {
  constexpr float kFactor = 400;
  fs::copy(kReviews / "model", dir);
  const SafetensorsFile file(kReviews / "model" / "model.safetensors");
  std::map<std::string, Tensor> changed;
  std::map<std::string, TensorView> tensors;
  for (const auto& [name, view] : file.tensors()) {
    tensors[name] = view;
    const bool value = name.find("layer.1.attention.self.value.") != std::string::npos,
               reader = name.find("layer.1.attention.output.dense.weight") != std::string::npos;
    if (!value && !reader) continue;
    Tensor& t = changed[name] = to_f32(view, name);
    if (reader)
      for (std::int64_t i = 0; i < t.rows(); ++i) t.row(i)[channel] /= kFactor;
    else if (t.shape().rank() == 2)
      for (std::int64_t j = 0; j < t.cols(); ++j) t.row(channel)[j] *= kFactor;
    else
      t.f32()[static_cast<std::size_t>(channel)] *= kFactor;
    tensors[name] = t;
  }
  ASSERT_EQ(changed.size(), 3U);
  write_safetensors(dir / "model.safetensors", tensors, file.metadata());
}

TEST(SiteReport, FindsTheSiteThatHurts) {
  const quell::testing::ScratchDir dir;
  write_model_with_outlier(dir / "model", 5);
  ExecContext ctx(2);
  const SiteReport report =
      run_site_report_job(make_job(dir / "model", dir / "page.html", "W8A8"), ctx);
  ASSERT_GT(report.sites.size(), 4U);
  const SiteMeasurement* worst = &report.sites.front();
  const SiteMeasurement* dearest = worst;
  for (const SiteMeasurement& m : report.sites) {
    if (m.alone > worst->alone) worst = &m;
    if (m.spared < dearest->spared) dearest = &m;
    EXPECT_GT(m.alone, 0) << m.name;
    EXPECT_NE(m.kernel, "") << m.name;
    EXPECT_GT(m.output_sqnr, 0) << m.name;
    EXPECT_LT(m.output_sqnr, 80) << m.name << ": codes of 8 bits leave an error";
    EXPECT_LE(m.output_sqnr, std::max(m.inputs_only_sqnr, m.weights_only_sqnr) + 1) << m.name;
    EXPECT_EQ(m.max_before.size(), static_cast<std::size_t>(m.channels));
    EXPECT_EQ(m.max_after.size(), static_cast<std::size_t>(m.columns));
  }
  EXPECT_EQ(worst->name, "layers.1.out_proj");
  EXPECT_EQ(dearest->name, "layers.1.out_proj");
  EXPECT_LT(worst->spared, report.all);
  ASSERT_FALSE(report.advice.empty());
  EXPECT_EQ(report.advice.front().text.find("leave layers.1.out_proj in float"), 0U)
      << report.advice.front().text;
  EXPECT_EQ(report.advice.front().arguments,
            "--ignore bert.encoder.layer.1.attention.output.dense");
  EXPECT_NE(report.verdict.find("leave layers.1.out_proj in float"), std::string::npos)
      << report.verdict;
  bool named = false;
  for (const Advice& advice : report.advice)
    named |= advice.text.find("layers.1.out_proj: channel 5 reaches") == 0;
  EXPECT_TRUE(named);
  const std::string page = read_text_file(dir / "page.html");
  for (const SiteMeasurement& m : report.sites) EXPECT_NE(page.find(m.name), std::string::npos);
  for (const char* outside : {"http:", "https:", "<script", "<link", "url("})
    EXPECT_EQ(page.find(outside), std::string::npos);
  EXPECT_NE(page.find("</html>"), std::string::npos);
}

TEST(SiteReport, AdviceIsACommandThatHelps) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  write_model_with_outlier(dir / "model", 5);
  SiteReportJob job = make_job(dir / "model", dir / "page.html", "W8A4");
  job.quantize_command = "quell quantize MODEL OUT --scheme W8A4";
  job.recipe_argument = "minmax";
  job.eval.emplace();
  job.eval->task = "classification";
  job.eval->limit = 200;
  job.eval_data.file = kReviews / "eval.tsv";
  const SiteReport report = run_site_report_job(job, ctx);
  ASSERT_FALSE(report.advice.empty());
  EXPECT_NE(report.advice.front().text.find(" points"), std::string::npos)
      << report.advice.front().text;
  EXPECT_EQ(report.command,
            job.quantize_command + " --recipe minmax " + report.advice.front().arguments);
  EXPECT_GT(report.float_metric, 50);
  EXPECT_GT(report.metric, 0);

  // What the advice says comes true: the linears it names, left in float, are all that changes.
  const std::string flag = "--ignore ";
  std::string rest = report.advice.front().arguments;
  for (std::size_t at = rest.find(flag); at != std::string::npos; at = rest.find(flag)) {
    rest.erase(0, at + flag.size());
    job.recipe.ignore.push_back(rest.substr(0, rest.find(' ')));
  }
  ASSERT_FALSE(job.recipe.ignore.empty());
  EXPECT_LT(run_site_report_job(job, ctx).all, report.all);
}

TEST(SiteReport, ShowsTheTextsThatDisagreeMost) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  const SiteReport report =
      run_site_report_job(make_job(kReviews / "model", dir / "page.html", "W4A4"), ctx);
  ASSERT_EQ(report.inputs.size(), 10U);
  const std::string page = read_text_file(dir / "page.html");
  const std::string data = read_text_file(kReviews / "calibration.tsv");
  std::int64_t others = 0;
  double last = report.inputs.front().divergence;
  for (const DivergentInput& input : report.inputs) {
    EXPECT_LE(input.divergence, last);
    last = input.divergence;
    EXPECT_EQ(input.thumbnail, "");
    const std::string first_words = input.text.substr(0, input.text.find(' ', 8));
    EXPECT_NE(data.find(first_words), std::string::npos) << input.text;
    EXPECT_NE(page.find(input.name), std::string::npos) << input.name;
    ASSERT_TRUE(input.has_classes);
    others += input.float_class != input.quantized_class ? 1 : 0;
    EXPECT_EQ(input.float_label, input.float_class == 1 ? "positive" : "negative");
  }
  EXPECT_GT(last, 0);
  EXPECT_LE(others, report.other_classes) << "of 16, and ten are shown";
  EXPECT_EQ(report.to_json()["inputs"][0]["text"], report.inputs.front().text);
}

TEST(SiteReport, ALossInsideTheNoiseIsToBeShipped) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  SiteReportJob job = make_job(kReviews / "model-plain", dir / "page.html", "W8A8");
  job.eval.emplace();
  job.eval->task = "classification";
  job.eval->limit = 200;
  job.eval_data.file = kReviews / "eval.tsv";
  const SiteReport report = run_site_report_job(job, ctx);
  EXPECT_EQ(report.verdict.find("Ship minmax W8A8 as it is"), 0U) << report.verdict;
}

TEST(SiteReport, NoiseOfADifference) {
  const Divergences worse{{0.5, 0.7, 0.6, 0.8}, 4};
  EXPECT_TRUE(clearly_smaller({{0.1, 0.3, 0.2, 0.4}, 4}, worse));  // every sequence gains as much
  EXPECT_FALSE(
      clearly_smaller({{0.0, 1.3, 0.1, 1.0}, 4}, worse));  // better on average, but by chance
  EXPECT_FALSE(clearly_smaller(worse, worse));
  EXPECT_NEAR(worse.mean(), 0.65, 1e-12);

  EXPECT_NEAR(noise_of_metric("accuracy", 82, 2000).value(), 1.72, 0.01);  // 2 sqrt(p (1 - p) / n)
  EXPECT_FALSE(noise_of_metric("perplexity", 8, 2000).has_value());
}

/// Without a task there is no noise to compare with, but a divergence that no task notices.
TEST(SiteReport, ADivergenceThatNoTaskNoticesIsToBeShipped) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  SiteReportJob job = make_job(kReviews / "model", dir / "page.html", "W8A8");
  job.recipe = load_recipe("os_plus");
  job.quantize_command = "quell quantize MODEL OUT";
  const SiteReport report = run_site_report_job(job, ctx);
  EXPECT_LT(report.all, 1e-3);
  EXPECT_EQ(report.verdict.find("Ship os_plus W8A8 as it is"), 0U) << report.verdict;
  EXPECT_EQ(report.command, "");
}

TEST(SiteReport, ChannelsThatWereSplitAreCounted) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  SiteReportJob job = make_job(kReviews / "model", dir / "page.html", "W8A8");
  job.recipe.passes = {PassParams("os_plus", {{"explicit", "true"}, {"split", "0.2"}})};
  std::int64_t more = 0;
  for (const SiteMeasurement& m : run_site_report_job(job, ctx).sites)
    more += m.columns - m.channels;
  EXPECT_GT(more, 0);
}

TEST(SiteReport, ClippedIsWhatTheStepOfItsGroupDoesNotReach) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  const auto clipped = [&](const char* recipe) {
    SiteReportJob job = make_job(kReviews / "model", dir / "page.html", "W8A8");
    job.recipe = load_recipe(recipe);
    set_scheme(job.recipe, "W8A8");
    double sum = 0;
    for (const SiteMeasurement& m : run_site_report_job(job, ctx).sites) sum += m.clipped;
    return sum;
  };
  const double one_step = clipped("minmax");
  EXPECT_GT(clipped("peg"), 4 * one_step)
      << "ranges of most groups are narrower than that of all channels";
}

TEST(SiteReport, BadInputLeavesNoPage) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(1);
  EXPECT_THROW(
      run_site_report_job(make_job(kReviews / "model", dir / "missing" / "page.html", "W8A8"), ctx),
      Error);
  SiteReportJob job = make_job(kReviews / "model", dir / "page.html", "W8A8");
  job.calibration.data.file = dir / "two.tsv";
  write_text_file(dir / "two.tsv", "a b\nc d\n");
  EXPECT_THROW(run_site_report_job(job, ctx), Error);  // nothing is left to measure on
  EXPECT_FALSE(fs::exists(dir / "page.html"));
}

}  // namespace
}  // namespace quell
