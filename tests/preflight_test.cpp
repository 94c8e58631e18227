// `quell quantize --dry-run`: estimates, and refusals before any work.
#include "quell/job/preflight.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

using quell::testing::kReviews;

QuantizeJob make_job(const std::string& recipe, const fs::path& out) {
  QuantizeJob job;
  job.model_dir = kReviews / "model";
  job.output = out;
  job.recipe = load_recipe(recipe);
  job.calibration.data.file = kReviews / "calibration.tsv";
  return job;
}

double seconds(const Preflight& p, const std::string& stage) {
  for (const Preflight::Stage& s : p.stages)
    if (s.name == stage) return s.seconds.value();
  ADD_FAILURE() << stage;
  return 0;
}

TEST(Preflight, EstimatesFollowTheRecipe) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  const Preflight plain = run_preflight(make_job("minmax", dir / "out"), ctx),
                  best = run_preflight(make_job("best", dir / "out"), ctx);
  EXPECT_FALSE(fs::exists(dir / "out"));
  EXPECT_FALSE(fs::exists(dir / "out.journal"));
  EXPECT_EQ(plain.sites, 16);
  EXPECT_EQ(plain.samples, 128);
  EXPECT_EQ(seconds(plain, "search"), 0);
  EXPECT_GT(seconds(best, "search"), 0);
  EXPECT_GT(seconds(best, "choose ranges"), 0);
  EXPECT_GT(plain.output_bytes, 400000U);  // some 450,000 weights, a byte each
  EXPECT_LT(plain.output_bytes, fs::file_size(kReviews / "model" / "model.safetensors"));
  EXPECT_GT(plain.peak_memory, fs::file_size(kReviews / "model" / "model.safetensors"));
  EXPECT_NE(best.to_text().find("memory at its peak"), std::string::npos);
}

/// Bytes that are written, for codes a byte each, packed codes, groups and quantized tables.
TEST(Preflight, SaysTheSizeOfWhatIsWritten) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  for (const char* recipe : {"{scheme: W8A8, passes: [rtn]}", "{scheme: W4A4, passes: [rtn]}",
                             "{scheme: W4A8, weights: {granularity: group, group_size: 32}, "
                             "activations: {granularity: token, dynamic: true}}",
                             "{scheme: W8A8, quantize: {embeddings: true}, passes: [rtn]}"}) {
    QuantizeJob job = make_job("minmax", dir / "out");
    job.recipe = parse_recipe(recipe, "test");
    job.calibration.num_samples = 16;
    job.replace_output = true;
    const auto said = static_cast<double>(run_preflight(job, ctx).output_bytes);
    run_quantize_job(job, ctx);
    const auto written = static_cast<double>(fs::file_size(dir / "out" / "model.safetensors"));
    EXPECT_LT(written, 1.2 * said) << recipe;
    EXPECT_GT(written, said / 1.2) << recipe;
  }
}

TEST(Preflight, MatricesOnTheDiskTakeNoMemory) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(1);
  QuantizeJob job = make_job("minmax", dir / "out");
  job.calibration.num_samples = 8;
  const Preflight in_memory = run_preflight(job, ctx);
  job.max_memory = 3 << 20;
  const Preflight on_disk = run_preflight(job, ctx);
  EXPECT_EQ(in_memory.scratch_bytes, 0U);
  EXPECT_GT(on_disk.scratch_bytes, fs::file_size(kReviews / "model" / "model.safetensors"));
  EXPECT_LT(on_disk.peak_memory, in_memory.peak_memory);
  EXPECT_NE(on_disk.to_text().find("the matrices on the disk"), std::string::npos);
}

TEST(Preflight, RefusesWhatCannotEndWell) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(1);
  const auto message = [&](const QuantizeJob& job) -> std::string {
    try {
      run_preflight(job, ctx);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  QuantizeJob job = make_job("best", dir / "out");
  job.format = "float";
  EXPECT_NE(message(job).find("cannot hold what os_plus does to layers.0."), std::string::npos)
      << message(job);
  job = make_job("minmax", dir / "out");
  job.recipe.passes.emplace_back("bias_correction", std::map<std::string, std::string>());
  job.format = "float";
  EXPECT_NE(message(job).find("bias_correction"), std::string::npos);
  job = make_job("rtn_group32", dir / "out");
  job.recipe.weights.group_size = 36;
  EXPECT_NE(message(job).find("36"), std::string::npos) << message(job);
  job = make_job("minmax", dir / "out");
  job.recipe.ignore = {"re:.*"};
  EXPECT_NE(message(job).find("nothing to quantize"), std::string::npos);
  job.recipe.ignore = {"re:.*layer"};
  EXPECT_NE(message(job).find("every linear is ignored, nothing to quantize; "), std::string::npos)
      << message(job);
  EXPECT_NE(message(job).find("classifier would be with quantize: {head: true} in the recipe"),
            std::string::npos)
      << message(job);
  job = make_job("minmax", dir / "out");
  job.model_dir = dir / "nowhere";
  EXPECT_NE(message(job).find("nowhere"), std::string::npos);
  job = make_job("minmax", dir / "out");
  job.max_memory = 1 << 20;
  EXPECT_NE(message(job).find("--max-memory 1.0 MiB is too little"), std::string::npos)
      << message(job);
  EXPECT_NE(message(job).find("--num-samples"), std::string::npos) << message(job);
  EXPECT_EQ(message(make_job("best", dir / "out")), "");
}

TEST(Preflight, TheCommandWritesNothing) {
  const quell::testing::ScratchDir dir;
  const std::string command = "quantize " + (kReviews / "model").string() + " " +
                              (dir / "out").string() + " --calibration " +
                              (kReviews / "calibration.tsv").string() + " --dry-run";
  const quell::testing::CommandResult text = quell::testing::run_quell(command);
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("together"), std::string::npos);
  const quell::testing::CommandResult json = quell::testing::run_quell(command + " --json -");
  EXPECT_GT(Json::parse(json.out).at("peak_memory_bytes").get<std::uint64_t>(), 0U);
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

}  // namespace
}  // namespace quell
