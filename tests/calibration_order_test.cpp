// What calibration makes of batches: padding says nothing, and the reference's order of work beside
// Quell's own.
#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/error.h"
#include "quell/compress/compress.h"
#include "quell/compress/journal.h"
#include "tests/support/support.h"

namespace quell {
namespace {

constexpr std::int64_t kRows = 8, kLength = 12;

/// Sequences of 4 to 12 tokens, padded on the right or on the left. `fill` chooses the tokens,
/// `padding` what stands where none are.
TokenBatch make_padded_batch(std::int32_t fill, std::int32_t padding, bool right) {
  TokenBatch b;
  b.batch = kRows;
  b.length = kLength;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const std::int64_t count = 4 + (3 * i + fill) % (kLength - 3);
    for (std::int64_t j = 0; j < kLength; ++j) {
      const bool token = right ? j < count : j >= kLength - count;
      const auto at = static_cast<std::int32_t>(i * kLength + j);
      b.ids.push_back(4 + (token ? 31 * fill + 17 * at : 7 * padding + 29 * at * padding) % 90);
      b.mask.push_back(token ? 1 : 0);
      b.type_ids.push_back(0);
    }
  }
  return b;
}

/// Queries are made small, so that no token attends to one other alone, as trained ones do: then
/// every query has a say in the range of the probabilities.
Model compressed(const std::vector<TokenBatch>& batches, const Recipe& recipe,
                 const Journal* journal = nullptr) {
  ExecContext ctx{2};
  Model model = load_model(Checkpoint::open(quell::testing::kReviews / "model"));
  for (Param& p : model.params)
    if (p.label == "q_proj")
      for (float& w : p.weight.f32()) w *= 0.1F;
  compress(model, batches, recipe, ctx, journal);
  return model;
}

/// Steps and zero points of all static quantizers, in the order of the graph.
std::vector<StepAndZero> quantizers(const Model& model) {
  std::vector<StepAndZero> out;
  for (const auto& [value, quant] : quantizers_of(model).inputs) out.push_back(quant.qparams);
  for (const auto& [node, quant] : quantizers_of(model).attention)
    for (const auto* point : quant.points()) out.push_back((*point)->qparams);
  return out;
}

void expect_same(const Model& a, const Model& b) {
  const std::vector<StepAndZero> left = quantizers(a), right = quantizers(b);
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_EQ(left[i].scale, right[i].scale) << "quantizer " << i;
    EXPECT_EQ(left[i].zero_point, right[i].zero_point) << "quantizer " << i;
  }
}

Recipe recipe_of(const std::string& rest) {
  return parse_recipe("scheme: W6A6\nresidual: quantized\nquantize: {attention: true}\n" + rest,
                      "test");
}

/// Neither keys nor queries that are padding: what those attend to once widened the range of the
/// probabilities.
TEST(Calibration, WhatStandsInThePaddingChangesNoRange) {
  for (const char* rest :
       {"passes: [rtn]", "passes: [rtn, {token_wise_clipping: {percentile: 0.9}}]",
        "activations: {calibrate: after_search}\npasses: [rtn]"})
    for (const bool right : {true, false}) {
      const Recipe recipe = recipe_of(rest);
      const Model first =
          compressed({make_padded_batch(1, 1, right), make_padded_batch(2, 1, right)}, recipe);
      for (const std::int32_t padding : {2, 3, 4}) {
        SCOPED_TRACE(str(rest, right ? ", right" : ", left", ", padding ", padding));
        expect_same(first, compressed({make_padded_batch(1, padding, right),
                                       make_padded_batch(2, padding, right)},
                                      recipe));
      }
    }
}

/// What no quantizer has touched has the same range either way; what reads quantized values has
/// not, since the pass behind the search takes a batch after the other. One batch makes no
/// difference but in last bits.
TEST(Calibration, AfterTheSearchSeesQuantizedValues) {
  const Recipe with = recipe_of("passes: [rtn]"),
               after = recipe_of("activations: {calibrate: after_search}\npasses: [rtn]");
  const std::vector<TokenBatch> batches = {
      make_padded_batch(1, 1, true), make_padded_batch(2, 1, true), make_padded_batch(3, 1, true)};
  const std::vector<StepAndZero> a = quantizers(compressed(batches, with)),
                                 b = quantizers(compressed(batches, after));
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(a.front().scale, b.front().scale);
  int different = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i].scale / b[i].scale, 1, 0.2) << "quantizer " << i;
    different += a[i].scale != b[i].scale ? 1 : 0;
  }
  EXPECT_GT(different, 0);

  const std::vector<TokenBatch> one = {batches.front()};
  const std::vector<StepAndZero> c = quantizers(compressed(one, with)),
                                 d = quantizers(compressed(one, after));
  for (std::size_t i = 0; i < c.size(); ++i)
    EXPECT_NEAR(c[i].scale / d[i].scale, 1, 1e-5) << "quantizer " << i;
}

/// While sites are searched, the first batch gives the ranges in front of them: the others change
/// no scale.
TEST(Calibration, AfterTheSearchOtherBatchesChangeNoScale) {
  const Recipe recipe = recipe_of(
      "activations: {calibrate: after_search, double_count_first_batch: true}\npasses: [{os_plus: "
      "{samples: first_batch}}, rtn]");
  const Model one = compressed({make_padded_batch(1, 1, true)}, recipe);
  const Model three = compressed(
      {make_padded_batch(1, 1, true), make_padded_batch(2, 1, true), make_padded_batch(3, 1, true)},
      recipe);
  for (std::size_t p = 0; p < one.params.size(); ++p) {
    const Tensor &a = one.params[p].weight, &b = three.params[p].weight;
    if (!a.defined()) continue;
    EXPECT_TRUE(std::equal(a.f32().begin(), a.f32().end(), b.f32().begin()))
        << one.params[p].module;
  }
  EXPECT_NE(quantizers(one).front().scale, quantizers(three).front().scale);
}

TEST(Calibration, AfterTheSearchGoesOnFromAJournal) {
  const quell::testing::ScratchDir dir;
  const Recipe recipe = recipe_of(
      "activations: {calibrate: after_search, double_count_first_batch: true}\npasses: [os_plus, "
      "rtn]");
  const std::vector<TokenBatch> batches = {make_padded_batch(1, 1, true),
                                           make_padded_batch(2, 1, true)};
  const Journal journal(dir / "journal", {"key", {}});
  const Model first = compressed(batches, recipe, &journal);
  const Journal again(dir / "journal", {"key", {}});
  EXPECT_GT(again.found(), 0U);
  expect_same(first, compressed(batches, recipe, &again));
}

TEST(Calibration, AfterTheSearchIsRefusedWhereItWouldDoNothing) {
  const auto expect_refused = [](const std::string& rest, const std::string& words) {
    try {
      compressed({make_padded_batch(1, 1, true)}, recipe_of(rest));
      ADD_FAILURE() << "accepted: " << rest;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    }
  };
  expect_refused("activations: {calibrate: after_search}\npasses: [{peg: {groups: 4}}, rtn]",
                 "a pass chooses");
  expect_refused("activations: {calibrate: later}\npasses: [rtn]", "with_search, after_search");
  try {
    parse_recipe("activations: {granularity: token, calibrate: after_search}\npasses: [rtn]",
                 "test");
    ADD_FAILURE() << "accepted with dynamic activations";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("dynamic"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace quell
