// The main job end to end on the shipped model, and the promise that integers give what the
// simulation said.
#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/build_id.h"
#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/base/random.h"
#include "quell/compress/compress.h"
#include "quell/engine/lower.h"
#include "quell/io/json.h"
#include "quell/job/engine.h"
#include "quell/job/preflight.h"
#include "quell/job/quantize_job.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"
#include "tests/support/support.h"

namespace quell {
namespace {

using quell::testing::load_sequences;
using quell::testing::same_bytes;
namespace fs = std::filesystem;

using quell::testing::kReviews;

QuantizeJob make_job(const std::string& recipe, const std::string& scheme, const fs::path& out) {
  QuantizeJob job;
  job.model_dir = kReviews / "model";
  job.output = out;
  job.recipe = quell::testing::quick_recipe(recipe);
  set_scheme(job.recipe, scheme);
  job.calibration.data.file = kReviews / "calibration.tsv";
  job.calibration.num_samples = 64;
  job.calibration.sampling = Sampling::kFirst;
  return job;
}

TokenBatch some_batch(const Model& model) {
  CalibrationChoice choice;
  choice.data.file = kReviews / "eval.tsv";
  choice.num_samples = 24;
  return make_batches(load_sequences(choice, model), 24, 0).front();
}

Tensor logits(const std::string& engine, const Model& model, const TokenBatch& batch,
              ExecContext& ctx) {
  ForwardOutputs outputs;
  make_engine(engine, model, ctx)->forward(batch, outputs, ctx);
  return std::move(outputs.values.at("logits"));
}

class Pipeline : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(Pipeline, IntegerEqualsExactSimulationOnEveryIsaAndThreadCount) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  run_quantize_job(make_job(std::get<0>(GetParam()), std::get<1>(GetParam()), dir / "out"), ctx);
  const Model model = load_model(Checkpoint::open(dir / "out"));
  ASSERT_TRUE(model.is_quantized());
  const TokenBatch batch = some_batch(model);
  const Tensor exact = logits("simulated-exact", model, batch, ctx);
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni}) {
    if (!cpu_supports(isa)) continue;
    ctx.isa = isa;
    EXPECT_TRUE(same_bytes(logits("integer", model, batch, ctx), exact)) << isa_name(isa);
  }
  ExecContext one(1), three(3);
  EXPECT_TRUE(
      same_bytes(logits("integer", model, batch, one), logits("integer", model, batch, three)));
  const Tensor simulated = logits("simulated", model, batch, ctx),
               plain = logits("float", model, batch, ctx);
  double to_simulated = 0, to_float = 0;
  for (std::size_t i = 0; i < exact.f32().size(); ++i) {
    to_simulated += std::fabs(static_cast<double>(exact.f32()[i] - simulated.f32()[i]));
    to_float += std::fabs(static_cast<double>(exact.f32()[i] - plain.f32()[i]));
  }
  EXPECT_GT(to_float, 0);
  EXPECT_LE(
      to_simulated,
      0.25 * to_float + 1e-3);  // rounding flips are rare against the error of quantization itself
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, Pipeline,
    ::testing::Values(
        std::tuple("minmax", "W8A8"), std::tuple("smoothquant", "W6A6"),
        std::tuple("os_plus", "W8A8"), std::tuple("os_plus", "W6A6"), std::tuple("os_plus", "W4A4"),
        std::tuple("os_plus_dynamic", "W8A8"), std::tuple("os_plus_standard", "W8A8"),
        std::tuple("os_plus_clipping", "W6A6"), std::tuple("outlier_suppression", "W6A6"),
        std::tuple("os_plus_gptq", "W4A4"), std::tuple("best", "W8A8"), std::tuple("best", "W4A4"),
        std::tuple("os_plus_explicit", "W4A4"), std::tuple("os_plus_adaround", "W4A4"),
        std::tuple("os_plus_corrected", "W6A6"), std::tuple("rtn_group32", "W4A8"),
        std::tuple("rtn_group32", "W8A8"), std::tuple("minmax", "W2A8"),
        std::tuple("rtn_group32", "W2A8"), std::tuple("os_plus_group", "W4A4"),
        std::tuple("peg", "W8A8"), std::tuple("peg", "W6A6"), std::tuple("peg_folded", "W8A8")),
    [](const auto& info) {
      return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
    });

/// Plain loops over whole codes, and floats of the whole table, are what is compared with.
TEST(Pipeline, WeightsAndTablesOfTwoBitsStayPacked) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  QuantizeJob job = make_job("minmax", "W2A8", dir / "out");
  job.recipe.quantize_embeddings = true;
  run_quantize_job(job, ctx);

  const Model model = load_model(Checkpoint::open(dir / "out"));
  std::size_t products = 0;
  for (const LoweredNode& node : describe_lowering(model, ctx)) {
    if (node.kernel.find("u8*s8") == std::string::npos) continue;
    ++products;
    EXPECT_NE(node.kernel.find("crumbs"), std::string::npos) << node.name << ": " << node.kernel;
    const std::int64_t padded = kernels::round_up(node.rows, kernels::kPanel) *
                                kernels::round_up(node.columns, kernels::kPackedK);
    EXPECT_EQ(node.bytes, static_cast<std::size_t>(padded / 4)) << node.name;
  }
  EXPECT_GT(products, 0U);

  std::size_t tables = 0;
  for (const Param& p : model.params) {
    if (!p.packed_table.defined()) continue;
    ++tables;
    const auto whole = static_cast<std::size_t>(p.weight.numel()) * sizeof(float);
    EXPECT_LT(p.packed_table.bytes(), whole / 8) << p.module;
  }
  EXPECT_GT(tables, 0U);
  const TokenBatch batch = some_batch(model);
  EXPECT_TRUE(same_bytes(logits("integer", model, batch, ctx),
                         logits("simulated-exact", model, batch, ctx)));
}

TEST(Pipeline, SameInputGivesTheSameFiles) {
  const quell::testing::ScratchDir dir;
  for (const int threads : {1, 3}) {
    ExecContext ctx(threads);
    run_quantize_job(make_job("os_plus", "W6A6", dir / std::to_string(threads)), ctx);
  }
  for (const char* name : {"model.safetensors", "config.json"})
    EXPECT_EQ(read_text_file(dir / "1" / name), read_text_file(dir / "3" / name)) << name;
}

/// However many steps an earlier run left, and whatever a crash did to the last of them.
TEST(Pipeline, AJournalGivesTheSameBytes) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  QuantizeJob job = make_job("os_plus_clipping", "W8A8", dir / "out");
  job.recipe.passes.front() = PassParams("os_plus", {{"explicit", "true"}, {"split", "0.2"}});
  job.calibration.num_samples = 24;
  const auto codes_of = [](const Model& model) {
    std::string bytes;
    const auto add = [&](const TensorView& t) {
      bytes.append(static_cast<const char*>(t.raw()), t.num_bytes());
    };
    for (const Param& p : model.params) {
      if (p.quantized) add(p.quantized->codes), add(p.quantized->qparams.scale);
      if (p.bias.defined()) add(p.bias);
    }
    for (const auto& [value, quant] : quantizers_of(model).inputs)
      bytes += str(value, " ", quant.qparams.scale, " ", quant.qparams.zero_point);
    for (const auto& [node, quant] : quantizers_of(model).attention)
      bytes += str(node, " ", quant.probs->qparams.scale);
    return bytes;
  };
  const auto run = [&](const Journal* journal) {
    Model model = load_model(Checkpoint::open(job.model_dir));
    const std::vector<TokenBatch> samples =
        make_batches(load_sequences(job.calibration, model), 16, 0);
    compress(model, samples, job.recipe, ctx, journal);
    return codes_of(model);
  };
  const std::string want = run(nullptr);
  const fs::path at = dir / "out.journal";
  const JournalKey key = {"this build", "this work"};
  std::vector<fs::path> steps;
  {
    const Journal journal(at, key);
    EXPECT_EQ(journal.found(), 0U);
    EXPECT_EQ(run(&journal), want);
    for (const auto& entry : fs::directory_iterator(at))
      if (entry.path().filename() != "key") steps.push_back(entry.path());
  }
  std::sort(steps.begin(), steps.end());
  const auto notes = std::partition(steps.begin(), steps.end(),
                                    [](const fs::path& p) { return p.extension() != ".note"; });
  ASSERT_GT(notes - steps.begin(), 4);
  ASSERT_GT(steps.end() - notes, 4) << "a candidate of the clipping each";
  EXPECT_EQ(Journal(at, key).found(), steps.size());
  const Journal whole(at, key);
  EXPECT_EQ(run(&whole), want);
  // As if it had been stopped while it clipped.
  fs::remove(at / "ranges-0.plan.safetensors");
  fs::remove(notes[1]);
  write_text_file(notes[2], "{");
  const Journal clipping(at, key);
  EXPECT_EQ(run(&clipping), want);
  fs::remove(steps[1]);
  fs::resize_file(steps[2], 100);
  write_text_file(steps[3], "not a plan");
  const Journal damaged(at, key);
  EXPECT_EQ(run(&damaged), want);
  fs::create_directory(dir / "data");
  write_text_file(dir / "data" / "precious", "x");
  EXPECT_THROW(Journal(dir / "data", key), Error);  // somebody else's directory
  damaged.finish();
  EXPECT_FALSE(fs::exists(at));
}

/// What an older binary decided is not what this one would.
TEST(Pipeline, AJournalOfAnotherBuildIsNotReplayed) {
  const quell::testing::ScratchDir dir;
  std::string messages;
  set_log_sink([&](LogLevel, const std::string& message) { messages += message + "\n"; });
  const fs::path at = dir / "out.journal";
  std::vector<Plan> plans(1);
  plans.front().emplace_back(AddToBias{3, Tensor::f32({4})});
  const auto found_by = [&](const JournalKey& key) {
    messages.clear();
    const Journal journal(at, key);
    const std::size_t found = journal.found();
    EXPECT_EQ(journal.read("site-0").size(), found);
    journal.write("site-0", plans);
    return found;
  };
  EXPECT_EQ(found_by({"old", "work"}), 0U);
  EXPECT_EQ(messages, "");
  EXPECT_EQ(found_by({"old", "work"}), 1U);
  EXPECT_EQ(found_by({"new", "work"}), 0U);
  EXPECT_NE(messages.find("another build of quell"), std::string::npos) << messages;
  EXPECT_EQ(found_by({"new", "other work"}), 0U);
  EXPECT_NE(messages.find("another run"), std::string::npos) << messages;
  EXPECT_EQ(found_by({"new", "other work"}), 1U);

  // A run that still writes, where no lock kept the two apart.
  const Journal one(at, {"new", "other work"}), two(at, {"new", "third work"});
  one.write("site-0", plans);
  one.write_note("ranges-0", 0, {1.0});
  EXPECT_TRUE(two.read("site-0").empty());
  EXPECT_FALSE(two.read_note("ranges-0", 0).has_value());
  EXPECT_EQ(one.read_note("ranges-0", 0), std::vector{1.0});
  set_log_sink(nullptr);
}

/// Losses and gradients of every step, as they were, however many an earlier run has left.
TEST(Pipeline, AClippingThatWasStoppedGoesOn) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  QuantizeJob job = make_job("minmax", "W4A4", dir / "out");
  job.recipe.passes.emplace_back(
      "token_wise_clipping", std::map<std::string, std::string>{
                                 {"candidates", "5"}, {"epochs", "2"}, {"learning_rate", "1e-3"}});
  job.calibration.num_samples = 48;
  int evaluated = 0;
  ctx.on_progress = [&](const std::string& stage, std::int64_t, std::int64_t) {
    evaluated += stage == "learn" ? 1 : 0;
  };
  const auto run = [&](const Journal* journal) {
    Model model = load_model(Checkpoint::open(job.model_dir));
    compress(model, make_batches(load_sequences(job.calibration, model), 16, 0), job.recipe, ctx,
             journal);
    std::string steps;
    for (const auto& [value, quant] : quantizers_of(model).inputs)
      steps += str(value, " ", quant.qparams.scale, " ", quant.qparams.zero_point, "\n");
    return steps;
  };
  const std::string want = run(nullptr);
  const fs::path at = dir / "out.journal";
  const auto note = [&](int i) { return at / str("ranges-0.", i, ".note"); };
  constexpr int kNotes =
      5 + 1 + 2 * 3 + 1;  // candidates, the best of them, steps of three batches, the end
  for (const int kept : {kNotes, 9, 6, 3, 0}) {
    const Journal journal(at, {"build", "work"});
    EXPECT_EQ(run(&journal), want) << kept;
    ASSERT_TRUE(fs::exists(note(kNotes - 1)) && !fs::exists(note(kNotes)));
    fs::remove(at / "ranges-0.plan.safetensors");
    for (int i = kept; i < kNotes; ++i) fs::remove(note(i));
  }
  const Journal last(at, {"build", "work"});
  EXPECT_EQ(run(&last), want);
  EXPECT_GT(evaluated, 0);
}

/// Every pass that touches weights in its own way.
TEST(Pipeline, MatricesOnTheDiskGiveTheSameFiles) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(2);
  for (const char* recipe : {"best", "os_plus_gptq", "os_plus_corrected", "outlier_suppression"}) {
    QuantizeJob job = make_job(recipe, "W8A8", dir / (std::string(recipe) + "-memory"));
    job.calibration.num_samples = 16;
    run_quantize_job(job, ctx);
    const fs::path in_memory = job.output;
    job.output = dir / (std::string(recipe) + "-disk");
    const Checkpoint checkpoint = Checkpoint::open(job.model_dir);
    ASSERT_EQ(scratch_for(job, checkpoint), nullptr) << "a small model";
    job.max_memory = 3 << 20;  // its 1.8 MB in f32 are more than half of that
    ASSERT_NE(scratch_for(job, checkpoint), nullptr);
    run_quantize_job(job, ctx);
    const auto same = [&](const fs::path& output) {
      for (const char* file : {"model.safetensors", "config.json"})
        EXPECT_EQ(read_text_file(output / file), read_text_file(in_memory / file))
            << recipe << " " << file;
    };
    same(job.output);
    // What fits with the matrices on the disk does not fit when nothing of the values may be in
    // memory but what is at work.
    job.output = dir / (std::string(recipe) + "-values");
    job.max_memory = 2000 << 10;
    Model model = load_model(checkpoint);
    fit_memory(job, model,
               make_batches(load_sequences(job.calibration, model),
                            static_cast<std::size_t>(job.recipe.batch_size), 0));
    EXPECT_TRUE(model.values_in_scratch) << recipe;
    run_quantize_job(job, ctx);
    same(job.output);
  }
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(dir.path()))
    files += entry.is_directory() ? 0 : 1;
  EXPECT_EQ(files, 0U) << "scratch files have no names";
}

TEST(Pipeline, JournalKeysDifferWhereResultsMay) {
  const QuantizeJob job = make_job("os_plus", "W8A8", "out");
  Model model = load_model(Checkpoint::open(job.model_dir));
  std::vector<TokenBatch> samples = make_batches(load_sequences(job.calibration, model), 16, 0);
  const JournalKey key = journal_key(model, samples, job.recipe, Isa::kPortable);
  EXPECT_EQ(key.build, build_id());
  EXPECT_EQ(key.build.size(), 32U);
  EXPECT_TRUE(journal_key(model, samples, job.recipe, Isa::kPortable) == key);
  Recipe other = job.recipe;
  set_scheme(other, "W8A7");
  EXPECT_NE(journal_key(model, samples, other, Isa::kPortable).work, key.work);
  other = job.recipe;
  other.ignore = {"*"};
  EXPECT_NE(journal_key(model, samples, other, Isa::kPortable).work, key.work);
  EXPECT_NE(journal_key(model, samples, job.recipe, Isa::kAvx2).work, key.work);
  samples.back().ids.back() += 1;
  EXPECT_NE(journal_key(model, samples, job.recipe, Isa::kPortable).work, key.work);
  samples.back().ids.back() -= 1;
  model.params.back().weight.f32().back() += 1;
  EXPECT_NE(journal_key(model, samples, job.recipe, Isa::kPortable).work, key.work);
}

/// The linears of the first site read what they read in the float model, but for its quantization.
TEST(Pipeline, CorrectedBiasesKeepTheMeanOfOutputs) {
  ExecContext ctx(2);
  const QuantizeJob job = make_job("minmax", "W4A4", "out");
  const Model original = load_model(Checkpoint::open(job.model_dir));
  const std::vector<TokenBatch> samples =
      make_batches(load_sequences(job.calibration, original), 16, 0);
  const auto first_error = [&](const char* passes) {
    Model model = load_model(Checkpoint::open(job.model_dir));
    compress(model, samples,
             parse_recipe(std::string("scheme: W4A4\npasses: ") + passes + "\n", "test"), ctx);
    const OpTable exact = make_float_ops(original),
                  quantized = make_simulated_ops(model, false, ctx.isa);
    int node = 0;
    while (!model.graph.node(node).is(op_linear)) ++node;
    const ValueId out = model.graph.node(node).out;
    std::vector<double> sums;
    for (const TokenBatch& batch : samples) {
      Executor a(original, exact, false, batch, ctx), b(model, quantized, true, batch, ctx);
      a.run_until(node);
      a.run(node);
      b.run_until(node);
      b.run(node);
      const Tensor &y = a.value(out), &q = b.value(out);
      sums.resize(static_cast<std::size_t>(y.cols()));
      for (std::int64_t i = 0; i < y.rows(); ++i)
        for (std::int64_t j = 0; batch.mask[static_cast<std::size_t>(i)] && j < y.cols(); ++j)
          sums[static_cast<std::size_t>(j)] += static_cast<double>(y.row(i)[j] - q.row(i)[j]);
    }
    double worst = 0;
    for (const double s : sums) worst = std::max(worst, std::fabs(s));
    return worst;
  };
  const double plain = first_error("[rtn]"), corrected = first_error("[rtn, bias_correction]");
  EXPECT_GT(plain, 1.0);
  EXPECT_LT(corrected, 0.01 * plain);
}

TEST(Pipeline, CorrectedBiasesAreRefusedWhereTheyDoHarm) {
  const quell::testing::ScratchDir dir;
  ExecContext ctx(1);
  QuantizeJob job = make_job("os_plus_corrected", "W8A8", dir / "out");
  job.format = "float";
  EXPECT_THROW(run_quantize_job(job, ctx), Error);  // the float function is not the original's
  job.format = "compressed-tensors";
  job.recipe.passes.emplace_back("token_wise_clipping", std::map<std::string, std::string>());
  EXPECT_THROW(run_quantize_job(job, ctx), Error);
}

TEST(Pipeline, EveryExportReadsBackAndKeepsTheFloatFunction) {
  int ran = 0;
  for (const char* name : {"opt", "opt-350m", "opt-nobias", "llama", "llama-bias", "bert-cls"})
    for (const char* pass : {"{os_plus: {shift: always}}",
                             "{os_plus: {shift: always, explicit: true, explicit_shift: true}}",
                             "{os_plus: {explicit: true, split: 0.5, holdout: true}}",
                             "{os_plus: {explicit: true, explicit_shift: true, split: 0.5}}",
                             "{smoothquant: {alpha: 0.5}}"}) {
      const fs::path model_dir = quell::testing::find_data(std::string("golden/models/") + name);
      if (model_dir.empty()) continue;  // not all are in tests/golden
      ++ran;
      const quell::testing::ScratchDir dir;
      ExecContext ctx(2);
      Random random(3);
      std::string rows;
      for (int i = 0; i < 24; ++i) {
        Json ids = Json::array();
        for (int j = 0; j < 12; ++j) ids.push_back(random.below(100));
        rows += Json({{"input_ids", ids}}).dump() + "\n";
      }
      write_text_file(dir / "ids.jsonl", rows);
      QuantizeJob job;
      job.model_dir = model_dir;
      job.output = dir / "out";
      job.recipe = parse_recipe(
          std::string("scheme: W8A8\nquantize: {projections: true}\npasses: [") + pass + ", rtn]\n",
          "test");
      job.calibration.data.file = dir / "ids.jsonl";
      run_quantize_job(job, ctx);  // verifies the migrated float function itself
      const Model exported = load_model(Checkpoint::open(dir / "out"));
      const TokenBatch batch =
          make_batches(load_sequences(job.calibration, exported), 8, 0).front();
      const Tensor exact = logits("simulated-exact", exported, batch, ctx);
      EXPECT_TRUE(same_bytes(logits("integer", exported, batch, ctx), exact))
          << name << " " << pass;
      const Model original = load_model(Checkpoint::open(model_dir));
      const Tensor plain = logits("float", original, batch, ctx);
      double error = 0, size = 0;
      for (std::size_t i = 0; i < plain.f32().size(); ++i) {
        error += std::pow(static_cast<double>(exact.f32()[i] - plain.f32()[i]), 2);
        size += std::pow(static_cast<double>(plain.f32()[i]), 2);
      }
      EXPECT_LT(error, 0.02 * size) << name << " " << pass;
      EXPECT_GT(error, 0) << name;
    }
  EXPECT_GE(ran, 9);  // three models at least: those of tests/golden
}

/// Next tokens are the targets of causal language models alone: masked and encoder-decoder models
/// have logits of the same width.
TEST(Pipeline, ClippingChoosesItsLossByTheModel) {
  int ran = 0;
  for (const auto& [name, causal] :
       {std::pair("opt", true), {"llama", true}, {"bert-mlm", false}, {"t5", false}}) {
    const fs::path dir = quell::testing::find_data(std::string("golden/models/") + name);
    if (dir.empty()) continue;  // not all are in tests/golden
    ++ran;
    ExecContext ctx(2);
    Random random(3);
    std::vector<TokenSequence> sequences(16);
    for (TokenSequence& s : sequences)
      for (int i = 0; i < 12; ++i) s.ids.push_back(static_cast<std::int32_t>(3 + random.below(90)));
    for (const char* loss : {"auto", "cross_entropy"}) {
      Model model = load_model(Checkpoint::open(dir));
      const std::vector<TokenBatch> samples = make_batches(sequences, 8, 0);
      const Recipe recipe = parse_recipe(
          std::string("scheme: W6A6\npasses: [rtn, {token_wise_clipping: {loss: ") + loss + "}}]\n",
          "test");
      if (causal || std::string(loss) == "auto")
        EXPECT_NO_THROW(compress(model, samples, recipe, ctx)) << name << " " << loss;
      else
        EXPECT_THROW(compress(model, samples, recipe, ctx), Error) << name << " " << loss;
    }
  }
  EXPECT_GE(ran, 2);
}

TEST(Pipeline, ClippingRefusesDynamicActivationsBeforeAnyWork) {
  const quell::testing::ScratchDir dir;
  QuantizeJob job = make_job("os_plus_dynamic", "W8A8", dir / "out");
  job.recipe.passes.emplace_back("token_wise_clipping", std::map<std::string, std::string>());
  ExecContext ctx(1);
  EXPECT_THROW(run_quantize_job(job, ctx), Error);
}

TEST(Pipeline, AFloatCheckpointCannotHoldAnExplicitChange) {
  const quell::testing::ScratchDir dir;
  QuantizeJob job = make_job("os_plus_clipping", "W6A6", dir / "out");
  job.format = "float";
  ExecContext ctx(2);
  EXPECT_THROW(run_quantize_job(job, ctx), Error);
  EXPECT_FALSE(fs::exists(dir / "out"));
}

/// Kernels of every ISA equal the exact sums, and those the plain simulation within the bound of
/// docs/numerics.md for one linear: 4 K 2^-24 sum |x w|.
void expect_exact_and_near_simulation(const Tensor& x, const QTensor& w, const Tensor& bias,
                                      const ActivationQuant& input) {
  ExecContext ctx(2);
  const std::int64_t m = x.rows(), n = w.codes.rows(), k = x.cols();
  Tensor exact = Tensor::f32({m, n}), packed = Tensor::f32({m, n}), plain = Tensor::f32({m, n}),
         xq = Tensor::f32({m, k});
  IntegerLinear(w, bias, input, {.exact_simulation = true}).forward(x, exact.span(), ctx);
  make_fake_quantized_product(w, bias, input, Rounding::kReciprocal, nullptr)
      ->forward(x, plain.span(), ctx);
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni}) {
    if (!cpu_supports(isa)) continue;
    IntegerLinear(w, bias, input, {.isa = isa}).forward(x, packed.span(), ctx);
    EXPECT_TRUE(same_bytes(packed, exact)) << isa_name(isa);
  }
  fake_quantize_activations(x, input, Rounding::kReciprocal, xq.span(), ctx);
  const Tensor wq = dequantize(w);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = std::fabs(static_cast<double>(bias.f32()[static_cast<std::size_t>(j)]));
      for (std::int64_t l = 0; l < k; ++l)
        sum += std::fabs(static_cast<double>(xq.row(i)[l]) * static_cast<double>(wq.row(j)[l]));
      EXPECT_LE(std::fabs(static_cast<double>(plain.row(i)[j] - exact.row(i)[j])),
                4 * static_cast<double>(k) * 0x1p-24 * sum);
    }
}

TEST(IntegerLinear, PlainSimulationStaysWithinItsBound) {
  Random random(11);
  const std::int64_t m = 9, k = 200, n = 37;
  Tensor x = Tensor::f32({m, k}), w = Tensor::f32({n, k}), bias = Tensor::f32({n});
  for (Tensor* t : {&x, &w, &bias})
    for (float& v : t->f32())
      v = static_cast<float>(random.uniform() * 2 - 1) * (random.below(50) ? 1.0F : 8.0F);
  for (const auto& [bits, group] : std::vector<std::pair<int, std::int64_t>>{
           {8, 0}, {6, 0}, {4, 0}, {2, 0}, {8, 40}, {4, 8}, {4, 200}})
    for (const bool symmetric_weight : {true, false})
      for (const bool symmetric_input : {true, false})
        for (const Granularity granularity :
             {Granularity::kPerToken, Granularity::kPerTensor, Granularity::kPerGroup}) {
          SCOPED_TRACE(::testing::Message()
                       << bits << " bits, groups of " << group << ", activations per "
                       << granularity_name(granularity));
          const bool dynamic = granularity != Granularity::kPerTensor;
          const QTensor q = quantize_weight(
              w, {bits, symmetric_weight,
                  group > 0 ? Granularity::kPerGroup : Granularity::kPerChannel, group});
          // Weights with one step a channel also go with groups of activations.
          ActivationQuant input{
              {bits, symmetric_input, granularity, group > 0 ? group : 40, dynamic}, {}};
          if (!dynamic) input.qparams = calculate_qparams(range_of(x.f32(), "x"), input.spec);
          expect_exact_and_near_simulation(x, q, bias, input);
        }
}

/// In any order of the channels.
TEST(IntegerLinear, StaticGroupsOfChannels) {
  ExecContext ctx(2);
  Random random(12);
  const std::int64_t m = 7, k = 200, n = 37;
  Tensor x = Tensor::f32({m, k}), w = Tensor::f32({n, k}), bias = Tensor::f32({n});
  for (Tensor* t : {&x, &w, &bias})
    for (float& v : t->f32()) v = static_cast<float>(random.uniform() * 2 - 1);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < k; ++j) x.row(i)[j] *= static_cast<float>(1 + j % 9);
  for (const int bits : {8, 6, 4})
    for (const bool symmetric_weight : {true, false})
      for (const bool symmetric_input : {true, false}) {
        SCOPED_TRACE(::testing::Message()
                     << bits << (symmetric_weight ? " symmetric" : " asymmetric") << " weights, "
                     << (symmetric_input ? "symmetric" : "asymmetric") << " inputs");
        ActivationQuant input{{bits, symmetric_input, Granularity::kPerTensor}, {}};
        ChannelGroups groups;
        for (std::int32_t j = 0; j < k; ++j) groups.channels.push_back(j);
        random.shuffle(groups.channels);
        for (const float most : {2.0F, 9.0F, 4.0F, 6.0F, 8.0F})
          groups.steps.push_back(calculate_qparams({-most / 2, most}, input.spec));
        input.groups = std::make_shared<const ChannelGroups>(groups);
        expect_exact_and_near_simulation(
            x, quantize_weight(w, {bits, symmetric_weight, Granularity::kPerChannel}), bias, input);
        Tensor xq = Tensor::f32({m, k});
        fake_quantize_activations(x, input, Rounding::kReciprocal, xq.span(), ctx);
        EXPECT_TRUE(same_bytes(dequantize_rows(quantize_rows(x, input, true, ctx), ctx), xq));
      }
}

}  // namespace
}  // namespace quell
