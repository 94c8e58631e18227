// The stages of an attention against plain loops, by taps, in parts and with quantizers.
#include "quell/graph/attention_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <utility>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

constexpr std::int64_t kDim = 4;
constexpr float kTolerance = 2e-6F;

Tensor random_rows(Shape shape, std::uint64_t seed) {
  Random random(seed);
  Tensor t = Tensor::f32(std::move(shape));
  for (float& v : t.f32()) v = static_cast<float>(2 * random.uniform() - 1);
  return t;
}

/// Two sequences of five tokens, the second with padding behind three.
TokenBatch padded_sequences() {
  TokenBatch batch;
  batch.batch = 2;
  batch.length = 5;
  batch.ids.assign(10, 1);
  batch.mask = {1, 1, 1, 1, 1, 1, 1, 1, 0, 0};
  return batch;
}

AttentionSpec grouped_heads() {
  AttentionSpec spec;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.head_dim = kDim;
  spec.scale = 0.4F;
  return spec;
}

/// By stage, sequence and head.
using Taken = std::map<std::pair<AttentionStage, std::pair<std::int64_t, std::int64_t>>, Tensor>;

class AttentionRunTest : public ::testing::Test {
 protected:
  AttentionOperands operands() const { return {q, k, v}; }

  Tensor run(const AttentionRun& how = {}) { return run_attention(call, how, operands(), ctx); }

  /// What a tap sees on one thread.
  Taken taken(AttentionRun how = {}) {
    Taken out;
    how.tap = [&](const StageView& view) {
      out[{view.stage, {view.sequence, view.head}}] = Tensor::copy_of(view.values);
    };
    run(how);
    return out;
  }

  ExecContext ctx{1};
  TokenBatch batch = padded_sequences();
  AttentionSpec spec = grouped_heads();
  AttentionCall call{.spec = spec, .queries = batch, .keys = batch};
  Tensor q = random_rows({10, 4 * kDim}, 1);
  Tensor k = random_rows({10, 2 * kDim}, 2);
  Tensor v = random_rows({10, 2 * kDim}, 3);
};

void expect_equal(const TensorView& is, const TensorView& want, const std::string& what = "") {
  ASSERT_EQ(is.shape().to_string(), want.shape().to_string()) << what;
  for (std::size_t i = 0; i < is.f32().size(); ++i)
    ASSERT_EQ(is.f32()[i], want.f32()[i]) << what << " " << i;
}

void expect_near(const TensorView& is, const TensorView& want, const std::string& what = "") {
  ASSERT_EQ(is.shape().to_string(), want.shape().to_string()) << what;
  for (std::size_t i = 0; i < is.f32().size(); ++i)
    ASSERT_NEAR(is.f32()[i], want.f32()[i], kTolerance) << what << " " << i;
}

Tensor columns(const Tensor& x, std::int64_t begin, std::int64_t count) {
  Tensor out = Tensor::f32({x.rows(), count});
  for (std::int64_t i = 0; i < x.rows(); ++i) std::copy_n(x.row(i) + begin, count, out.row(i));
  return out;
}

ActivationQuant coarse(float step) {
  return {QuantSpec{.num_bits = 4, .symmetric = false}, {step, 7}};
}

TEST_F(AttentionRunTest, TapsSeeScoresMapsAndContext) {
  const Taken stages = taken();
  EXPECT_EQ(stages.size(), 3 + 2 * 2 * 4 + 1);
  expect_equal(stages.at({AttentionStage::kQuery, {-1, -1}}), q);
  expect_equal(stages.at({AttentionStage::kKey, {-1, -1}}), k);
  expect_equal(stages.at({AttentionStage::kValue, {-1, -1}}), v);
  const Tensor out = run();
  expect_equal(stages.at({AttentionStage::kContext, {-1, -1}}), out);

  for (std::int64_t sequence = 0; sequence < 2; ++sequence)
    for (std::int64_t head = 0; head < 4; ++head) {
      const Tensor& scores = stages.at({AttentionStage::kScores, {sequence, head}});
      const Tensor& map = stages.at({AttentionStage::kMap, {sequence, head}});
      for (std::int64_t i = 0; i < 5; ++i) {
        double sum = 0;
        std::vector<double> context(kDim);
        for (std::int64_t j = 0; j < 5; ++j) {
          double dot = 0;
          for (std::int64_t d = 0; d < kDim; ++d)
            dot += static_cast<double>(q.row(5 * sequence + i)[head * kDim + d]) *
                   static_cast<double>(k.row(5 * sequence + j)[head / 2 * kDim + d]);
          EXPECT_NEAR(scores.row(i)[j], 0.4 * dot, 1e-6);

          const bool padding = sequence == 1 && j >= 3;
          if (padding) {
            EXPECT_EQ(map.row(i)[j], 0.0F);
          }
          sum += static_cast<double>(map.row(i)[j]);
          for (std::int64_t d = 0; d < kDim; ++d)
            context[static_cast<std::size_t>(d)] +=
                static_cast<double>(map.row(i)[j]) *
                static_cast<double>(v.row(5 * sequence + j)[head / 2 * kDim + d]);
        }
        EXPECT_NEAR(sum, 1, 1e-6);
        for (std::int64_t d = 0; d < kDim; ++d)
          EXPECT_NEAR(out.row(5 * sequence + i)[head * kDim + d],
                      context[static_cast<std::size_t>(d)], 1e-6);
      }
    }
}

TEST_F(AttentionRunTest, ATapThatOnlyLooksChangesNothing) {
  const Tensor want = run();
  const AttentionRun looking{.tap = [](const StageView&) {}};
  expect_near(run(looking), want);
}

TEST_F(AttentionRunTest, ChangedScoresDecideWhatIsAttendedTo) {
  AttentionRun how;
  how.tap = [](const StageView& view) {
    if (view.stage != AttentionStage::kScores || view.head != 2) return;
    for (std::int64_t i = 0; i < view.values.rows(); ++i) view.values.row(i)[1] += 1000.0F;
  };
  const Tensor changed = run(how);
  const Tensor plain = run();
  for (std::int64_t row = 0; row < 10; ++row)
    for (std::int64_t d = 0; d < kDim; ++d) {
      const float value_of_token_1 = v.row(row / 5 * 5 + 1)[kDim + d];
      EXPECT_NEAR(changed.row(row)[2 * kDim + d], value_of_token_1, kTolerance);
      EXPECT_NEAR(changed.row(row)[kDim + d], plain.row(row)[kDim + d], kTolerance);
    }
}

TEST_F(AttentionRunTest, ChangedMapsAreWhatValuesAreMixedWith) {
  AttentionRun how;
  how.tap = [](const StageView& view) {
    if (view.stage == AttentionStage::kMap)
      for (float& p : view.values.f32()) p *= 2;
  };
  const Tensor doubled = run(how);
  const Tensor plain = run();
  for (std::size_t i = 0; i < plain.f32().size(); ++i)
    EXPECT_NEAR(doubled.f32()[i], 2 * plain.f32()[i], 2 * kTolerance);
}

TEST_F(AttentionRunTest, RotatesQueryAndKeyAlone) {
  spec.rotary_inv_freq = {0.5F, 0.25F};
  std::vector<std::int32_t> positions = {0, 1, 2, 3, 4, 0, 1, 2, 3, 4};
  call.positions = positions;
  const Taken stages = taken();
  expect_equal(stages.at({AttentionStage::kValue, {-1, -1}}), v);

  const auto check = [&](const Tensor& rotated, const Tensor& x) {
    for (std::int64_t t = 0; t < x.rows(); ++t)
      for (std::int64_t c = 0; c < x.cols(); c += kDim)
        for (std::int64_t i = 0; i < 2; ++i) {
          const double angle =
              static_cast<double>(positions[static_cast<std::size_t>(t)]) * (i == 0 ? 0.5 : 0.25);
          const auto a = static_cast<double>(x.row(t)[c + i]);
          const auto b = static_cast<double>(x.row(t)[c + i + 2]);
          EXPECT_NEAR(rotated.row(t)[c + i], a * std::cos(angle) - b * std::sin(angle), 1e-6);
          EXPECT_NEAR(rotated.row(t)[c + i + 2], b * std::cos(angle) + a * std::sin(angle), 1e-6);
        }
  };
  check(stages.at({AttentionStage::kQuery, {-1, -1}}), q);
  check(stages.at({AttentionStage::kKey, {-1, -1}}), k);

  // With a table made before, the same; and the way back turns it back.
  const RotaryTable table = make_rotary_table(positions, spec.rotary_inv_freq, 1.0F, ctx);
  const Tensor want = run();
  call.rotary = &table;
  expect_equal(run(), want);
  Tensor query = stages.at({AttentionStage::kQuery, {-1, -1}}).clone();
  Tensor key = stages.at({AttentionStage::kKey, {-1, -1}}).clone();
  transform_gradients(call, {}, query, key, ctx);
  expect_near(query, q, "query");
  expect_near(key, k, "key");
}

TEST_F(AttentionRunTest, QuantizersAreAppliedByHandElsewhere) {
  AttentionQuant quant{coarse(0.15F), coarse(0.2F), coarse(0.25F), coarse(0.07F)};
  quant.probs->qparams.zero_point = 0;
  for (const Rounding rounding : {Rounding::kDivide, Rounding::kReciprocal}) {
    const Tensor is = run({.quant = &quant, .rounding = rounding});

    Tensor by_hand[] = {q.clone(), k.clone(), v.clone()};
    for (std::size_t i = 0; i < 3; ++i)
      fake_quantize_activations(by_hand[i], **quant.points()[i], rounding, by_hand[i].span(), ctx);
    Tensor want = Tensor::f32(q.shape());
    attention(
        call.shape(), by_hand[0], by_hand[1], by_hand[2], batch.mask, want.span(), nullptr,
        [&](std::int64_t, std::span<float> map) {
          fake_quantize(map, quant.probs->qparams, quant.probs->spec, rounding, map);
        },
        ctx);
    expect_equal(is, want);
  }

  // The tap stands in front of them.
  const Taken stages = taken({.quant = &quant});
  expect_equal(stages.at({AttentionStage::kQuery, {-1, -1}}), q);
}

TEST_F(AttentionRunTest, EmptyPointsStayAsTheyAre) {
  AttentionQuant quant;
  quant.value = coarse(0.25F);
  const Tensor is = run({.quant = &quant});
  fake_quantize_activations(v, *quant.value, Rounding::kReciprocal, v.span(), ctx);
  expect_equal(is, run());
}

/// OPT's scheme: the query is scaled, then quantized; without quantizers nobody scales it.
TEST_F(AttentionRunTest, TheSchemeMayScaleTheQueryFirst) {
  AttentionQuant quant;
  quant.query = coarse(0.06F);
  const Tensor behind = run({.quant = &quant});
  spec.quantize_scaled_query = true;

  AttentionOperands prepared = operands();
  transform_operands(call, {}, prepared, ctx);
  EXPECT_EQ(prepared.scale, 0.4F);
  expect_equal(prepared[kQueryOperand], q);

  const AttentionRun how{.quant = &quant};
  AttentionOperands scaled = operands();
  transform_operands(call, how, scaled, ctx);
  EXPECT_EQ(scaled.scale, 1.0F);
  expect_equal(scaled[kKeyOperand], k);
  Tensor want = q.clone();
  for (float& x : want.f32()) x *= 0.4F;
  expect_equal(scaled[kQueryOperand], want);
  quantize_operands(how, scaled, ctx);
  fake_quantize_activations(want, *quant.query, Rounding::kReciprocal, want.span(), ctx);
  expect_equal(scaled[kQueryOperand], want);

  // Two places for a coarse step are two results.
  const Tensor first = run(how);
  double difference = 0;
  for (std::size_t i = 0; i < first.f32().size(); ++i)
    difference += std::fabs(static_cast<double>(first.f32()[i] - behind.f32()[i]));
  EXPECT_GT(difference, 1e-3);

  // Calibration sees what a quantizer will, before there is one.
  Tensor unquantized = q.clone();
  for (float& x : unquantized.f32()) x *= 0.4F;
  expect_equal(taken().at({AttentionStage::kQuery, {-1, -1}}), unquantized);
}

TEST_F(AttentionRunTest, CodesAreReadDirectlyWhereNothingStandsBetween) {
  const auto direct = [&] {
    std::vector<bool> out;
    for (std::size_t i = 0; i < 3; ++i) out.push_back(reads_codes_directly(spec, i));
    return out;
  };
  EXPECT_EQ(direct(), (std::vector<bool>{true, true, true}));
  spec.quantize_scaled_query = true;
  EXPECT_EQ(direct(), (std::vector<bool>{false, false, true}));
  spec.quantize_scaled_query = false;
  spec.rotary_inv_freq = {1.0F};
  EXPECT_EQ(direct(), (std::vector<bool>{false, false, true}));
}

TEST_F(AttentionRunTest, SomeHeadsAreColumnsOfTheWhole) {
  Tensor bias = random_rows({4 * 5, 5}, 4);
  std::vector<std::int32_t> positions = {0, 1, 2, 3, 4, 0, 1, 2, 0, 0};
  call.positions = positions;
  for (const bool alibi : {false, true}) {
    spec.alibi_slopes = alibi ? std::vector<float>{0.5F, 0.25F, 0.125F, 1} : std::vector<float>();
    if (!alibi) call.bias = bias;
    call.part = {};
    const Tensor whole = run();
    for (std::int64_t group = 0; group < 2; ++group) {
      call.part = {.first_kv_head = group, .kv_heads = 1};
      const Tensor part =
          run_attention(call, {},
                        {columns(q, group * 2 * kDim, 2 * kDim), columns(k, group * kDim, kDim),
                         columns(v, group * kDim, kDim)},
                        ctx);
      expect_equal(part, columns(whole, group * 2 * kDim, 2 * kDim));
    }
    call.bias.reset();
  }
}

TEST_F(AttentionRunTest, SomeQueriesAreRowsOfTheWhole) {
  Tensor bias = random_rows({4 * 5, 5}, 4);
  call.bias = bias;
  for (const bool causal : {false, true}) {
    spec.causal = causal;
    spec.sliding_window = causal ? 2 : 0;
    call.part = {};
    const Tensor whole = run();
    for (const auto& [first, count] : {std::pair(0, 2), std::pair(2, 2), std::pair(4, 2)}) {
      call.part = {.first_query = first, .queries = count};
      std::map<std::int64_t, std::int64_t> keys;  // by sequence
      const AttentionRun how{.tap = [&](const StageView& view) {
        if (view.stage == AttentionStage::kMap) keys[view.sequence] = view.values.cols();
      }};
      const Tensor part = run(how);
      EXPECT_EQ(keys.at(0), causal ? std::min(5, first + count) : 5);
      for (std::int64_t row = 0; row < 10; ++row) {
        const bool asked = row % 5 >= first && row % 5 < first + count;
        for (std::int64_t c = 0; c < part.cols(); ++c)
          EXPECT_NEAR(part.row(row)[c], asked ? whole.row(row)[c] : 0.0F, kTolerance)
              << "row " << row << ", queries from " << first;
      }
    }
  }
}

TEST_F(AttentionRunTest, DisentangledPositionsAreForWholeAttentions) {
  spec.disentangled.span = 2;
  const Tensor relative = random_rows({4, 4 * kDim}, 5);
  call.relative_query = relative;
  call.relative_key = relative;
  EXPECT_NO_THROW(score_terms(call, operands()));
  call.part.queries = 2;
  EXPECT_THROW(score_terms(call, operands()), Error);
}

/// As a model of f16 tensors: each stage's result is one, and the query is scaled first.
TEST_F(AttentionRunTest, StagesAreRoundedToTheModelsType) {
  const AttentionRun how{.arithmetic = DType::kF16};
  for (const auto& [where, values] : taken(how)) {
    if (where.first == AttentionStage::kValue) continue;  // as it was given
    for (const float x : values.f32()) ASSERT_EQ(x, round_to(DType::kF16, x));
  }
  AttentionOperands prepared = operands();
  transform_operands(call, how, prepared, ctx);
  EXPECT_EQ(prepared.scale, 1.0F);
  for (std::size_t i = 0; i < q.f32().size(); ++i)
    EXPECT_EQ(prepared[kQueryOperand].f32()[i],
              round_to(DType::kF16, round_to(DType::kF16, q.f32()[i]) * 0.4F));
}

TEST_F(AttentionRunTest, BorrowedOperandsAreLeftAlone) {
  AttentionQuant quant{coarse(0.15F), coarse(0.2F), coarse(0.25F), {}};
  spec.quantize_scaled_query = true;
  const Tensor before[] = {q.clone(), k.clone(), v.clone()};
  run({.quant = &quant, .arithmetic = DType::kBF16});
  expect_equal(q, before[0]);
  expect_equal(k, before[1]);
  expect_equal(v, before[2]);
}

}  // namespace
}  // namespace quell
