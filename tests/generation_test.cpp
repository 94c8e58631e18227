// Generation with a KV cache says what running everything again says, in every engine; sequences
// may come and go.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/compress/compress.h"
#include "quell/compress/recipe.h"
#include "quell/engine/generate.h"
#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/io/json.h"
#include "quell/job/engine.h"
#include "quell/job/verify_job.h"
#include "tests/support/support.h"

namespace quell {
namespace {

/// The most likely next token after each prefix of `ids`, and by how much, without a cache.
std::vector<std::pair<std::int32_t, float>> best_after(const ForwardModel& model,
                                                       const std::vector<std::int32_t>& ids,
                                                       std::size_t from, ExecContext& ctx) {
  TokenBatch batch;
  batch.batch = 1;
  batch.length = static_cast<std::int64_t>(ids.size());
  batch.ids = ids;
  batch.mask.assign(ids.size(), 1);
  batch.type_ids.assign(ids.size(), 0);
  ForwardOutputs outputs;
  model.forward(batch, outputs, ctx);
  const Tensor& logits = outputs.values.at("logits");
  std::vector<std::pair<std::int32_t, float>> out;
  for (std::size_t i = from; i < ids.size(); ++i) {
    const float* row = logits.row(static_cast<std::int64_t>(i));
    std::vector<float> sorted(row, row + logits.cols());
    const auto best =
        static_cast<std::int32_t>(std::max_element(sorted.begin(), sorted.end()) - sorted.begin());
    std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
    out.emplace_back(best, sorted[0] - sorted[1]);
  }
  return out;
}

class Generation : public ::testing::TestWithParam<std::string> {};

/// Recorded tokens, and one stack that makes them.
bool is_decoder_that_generates(const std::filesystem::path& dir) {
  const bool recorded = SafetensorsFile(dir / "reference.safetensors").has("generate.input_ids");
  return recorded && !read_json_file(dir / "config.json").value("is_encoder_decoder", false);
}
#define QUELL_NEED_DECODER(dir)        \
  if (!is_decoder_that_generates(dir)) \
  GTEST_SKIP() << dir << " is no decoder with recorded tokens (generate.input_ids)"

/// Every token is the uncached model's choice; `slack`: where the two best are closer than this,
/// either will do.
void expect_uncached_choice(const ForwardModel& model, const std::vector<std::int32_t>& prompt,
                            const std::vector<std::int32_t>& tokens, float slack,
                            ExecContext& ctx) {
  std::vector<std::int32_t> ids = prompt;
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  const auto best = best_after(model, ids, prompt.size() - 1, ctx);
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (best[i].second > slack) {
      EXPECT_EQ(tokens[i], best[i].first) << "token " << i;
    }
}

TEST_P(Generation, CachedTokensAreTheUncachedChoice) {
  QUELL_NEED_DATA(dir, "golden/models/" + GetParam());
  QUELL_NEED_DECODER(dir);
  ExecContext ctx(2);
  const Model model = load_model(Checkpoint::open(dir));
  ASSERT_TRUE(supports_kv_cache(model));
  const std::vector<std::int32_t> prompt = {5, 9, 14, 6, 23, 11, 40};
  GenerateOptions options;
  options.max_new_tokens = 12;
  options.stop_at_eos = false;
  const auto run = [&](const ForwardModel& engine, KvFormat format) {
    options.kv_format = format;
    TokenBatch batch;
    batch.batch = 1;
    batch.length = static_cast<std::int64_t>(prompt.size());
    batch.ids = prompt;
    batch.mask.assign(prompt.size(), 1);
    batch.type_ids.assign(prompt.size(), 0);
    return generate(engine, batch, options, ctx).front();
  };
  const auto engine = make_float_model(model);
  expect_uncached_choice(*engine, prompt, run(*engine, KvFormat::kF32), 1e-4F, ctx);
  EXPECT_EQ(run(*engine, KvFormat::kInt8).size(), 12U);
  const auto bf16 = make_engine("bf16", model, ctx);
  expect_uncached_choice(*bf16, prompt, run(*bf16, KvFormat::kF32), 1e-3F, ctx);

  // One rounding of a code may fall the other way; it moves logits by less than this.
  std::vector<TokenBatch> samples;
  samples.push_back(
      read_recorded_inputs(SafetensorsFile(dir / "reference.safetensors"), model.spec));
  for (const char* passes :
       {"[{smoothquant: {alpha: 0.5}}, rtn]", "[{os_plus: {explicit: true}}]"}) {
    Model quantized = load_model(Checkpoint::open(dir));
    const std::string recipe = "{scheme: W8A8, quantize: {attention: true}, passes: ";
    compress(quantized, samples, parse_recipe(recipe + passes + "}", "test"), ctx);
    ASSERT_TRUE(supports_kv_cache(quantized));
    const auto integer = lower(quantized, ctx);
    expect_uncached_choice(*integer, prompt, run(*integer, KvFormat::kF32), 0.05F, ctx);
    expect_uncached_choice(*integer, prompt, run(*integer, KvFormat::kInt8), 0.05F, ctx);
  }
}

TEST_P(Generation, TheHeadGetsCodesOfItsOwn) {
  QUELL_NEED_DATA(dir, "golden/models/" + GetParam());
  QUELL_NEED_DECODER(dir);
  const quell::testing::ScratchDir scratch;
  ExecContext ctx(2);
  Model model = load_model(Checkpoint::open(dir));
  std::vector<TokenBatch> samples;
  samples.push_back(
      read_recorded_inputs(SafetensorsFile(dir / "reference.safetensors"), model.spec));
  const auto logits = [&](const Model& m, const char* engine) {
    ForwardOutputs outputs;
    make_engine(engine, m, ctx)->forward(samples.front(), outputs, ctx);
    return std::move(outputs.values.at("logits"));
  };
  const Tensor before = logits(model, "float");
  compress(model, samples,
           parse_recipe("{scheme: W8A8, quantize: {lm_head: true}, passes: [rtn]}", "test"), ctx);
  const auto head = std::find_if(model.params.begin(), model.params.end(),
                                 [](const Param& p) { return p.role == Role::kLmHead; });
  ASSERT_NE(head, model.params.end());
  EXPECT_TRUE(head->quantized.has_value());
  export_compressed_tensors(model, scratch / "out", false);
  const Model read_back = load_model(Checkpoint::open(scratch / "out"));
  const Tensor integer = logits(read_back, "integer"), exact = logits(read_back, "simulated-exact");
  EXPECT_TRUE(std::equal(integer.f32().begin(), integer.f32().end(), exact.f32().begin()));
  double off = 0, size = 0;
  for (std::size_t i = 0; i < before.f32().size(); ++i) {
    off += std::fabs(static_cast<double>(integer.f32()[i] - before.f32()[i]));
    size += std::fabs(static_cast<double>(before.f32()[i]));
  }
  EXPECT_LT(off, 0.2 * size);
}

TEST_P(Generation, SequencesComeAndGo) {
  QUELL_NEED_DATA(dir, "golden/models/" + GetParam());
  QUELL_NEED_DECODER(dir);
  ExecContext ctx(2);
  const Model model = load_model(Checkpoint::open(dir));
  const auto engine = make_float_model(model);
  const std::vector<std::vector<std::int32_t>> prompts = {
      {5, 9, 14}, {6, 23, 11, 40, 8, 7}, {12}, {30, 31, 32, 33}};
  std::map<std::size_t, std::vector<std::int32_t>> out;
  BatchDecoder decoder(*engine, 2, 32);
  std::map<int, std::size_t> of;
  std::size_t next = 0;
  while (next < prompts.size() || decoder.size() > 0) {
    if (next < prompts.size() && decoder.has_room()) {
      of[decoder.add(prompts[next])] = next;
      ++next;
    } else if (next == 1) {
      EXPECT_THROW(decoder.remove(99), Error);
    }
    for (const auto& t : decoder.step(ctx)) {
      auto& tokens = out[of.at(t.id)];
      tokens.push_back(t.token);
      if (tokens.size() == 4 + of.at(t.id)) decoder.remove(t.id);
    }
  }
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    ASSERT_EQ(out[p].size(), 4 + p);
    expect_uncached_choice(*engine, prompts[p], out[p], 1e-4F, ctx);
  }
  EXPECT_THROW((decoder.add({}), 0), Error);
}

INSTANTIATE_TEST_SUITE_P(All, Generation,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/models")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

/// A norm in front of a quantized projection may leave codes alone: the last rows of those then.
TEST(LastTokens, AreThoseOfTheWholeBatchInIntegers) {
  QUELL_NEED_DATA(dir, "golden/models/opt-350m");
  Model model = load_model(Checkpoint::open(dir));
  const TokenBatch batch = make_batches({{{5, 6, 7, 8, 9}, {}, {}}, {{9, 8, 7, 6, 5}, {}, {}}}, 2,
                                        model.spec.pad_token_id)
                               .front();
  ExecContext ctx(1);
  const Recipe recipe =
      parse_recipe("scheme: W8A8\nquantize: {projections: true}\npasses: [rtn]\n", "test");
  compress(model, {batch}, recipe, ctx);

  const auto engine = lower(model, ctx);
  ForwardOutputs all;
  engine->forward(batch, all, ctx);
  ForwardOutputs last;
  last.last_tokens_only = true;
  engine->forward(batch, last, ctx);

  const Tensor& expected = all.values.at("logits");
  const Tensor& found = last.values.at("logits");
  ASSERT_EQ(found.rows(), 2);
  // The head multiplies floats, and the library that does so may add them up in another order for
  // another number of rows.
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t j = 0; j < found.cols(); ++j)
      EXPECT_NEAR(found.row(b)[j], expected.row(5 * b + 4)[j], 1e-5) << b << " " << j;
}

}  // namespace
}  // namespace quell
