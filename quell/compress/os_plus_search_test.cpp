// The search against numbers recorded from the official implementation (vectors 3, 4 and 6 of the
// specification).
#include "quell/compress/os_plus_search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/error.h"
#include "quell/graph/attention_run.h"
#include "quell/ops/elementwise.h"
#include "quell/ops/linear.h"
#include "quell/quant/quantize.h"
#include "tests/support/golden_numbers.h"

namespace quell {
namespace {

using Generator = quell::testing::GoldenNumbers;

/// Losses come from f32 products whose outputs are 10^4 times larger than the differences that are
/// squared; indices and scales are exact.
constexpr double kF32Products = 2e-5;

struct Setting {
  const char* name;
  QuantSpec activations, weights;
};

QuantSpec spec(int bits, bool symmetric, Granularity granularity, bool dynamic = false,
               std::int64_t group = 0) {
  return {bits, symmetric, granularity, group, dynamic};
}
const Setting kInt8 = {"8b", spec(8, true, Granularity::kPerTensor),
                       spec(8, true, Granularity::kPerTensor)};
const Setting kInt6 = {"6b", spec(6, false, Granularity::kPerTensor),
                       spec(6, false, Granularity::kPerChannel)};
const Setting kToken4 = {"4b token", spec(4, false, Granularity::kPerToken, true),
                         spec(4, false, Granularity::kPerChannel)};
const Setting kGroup4 = {"4b group", spec(4, false, Granularity::kPerGroup, true, 4),
                         spec(4, false, Granularity::kPerGroup, false, 4)};

TokenBatch batch_2x4(bool padded) {
  TokenBatch b;
  b.batch = 2;
  b.length = 4;
  b.ids = b.mask = std::vector<std::int32_t>(8, 1);
  b.type_ids = std::vector<std::int32_t>(8, 0);
  if (padded) b.mask[7] = 0;
  return b;
}

class OsPlusSearch : public ::testing::Test {
 protected:
  /// mk(seed, 2, 4, 8, outputs), shifted, in f32 or as tensors of another type.
  void make(std::uint32_t seed, std::int64_t outputs, DType type = DType::kF32) {
    const auto rounded = [type](float v) { return round_to(type, v); };
    Generator g(seed);
    Tensor x = g.make({8, 8}, -1, 1);
    for (int i = 0; i < 8; ++i) {
      x.row(i)[1] = 3 * x.row(i)[1] + 18;
      x.row(i)[4] = 5 * x.row(i)[4] - 25;
    }
    p.weight = g.make({outputs, 8}, -.5, .5);
    p.bias = g.make({outputs}, -.1, .1);
    for (Tensor* t : {&x, &p.weight, &p.bias})
      for (float& v : t->f32()) v = rounded(v);
    shift = Tensor::f32({8});
    for (int j = 0; j < 8; ++j) {
      float low = x.row(0)[j], high = low;
      for (int i = 1; i < 8; ++i)
        low = std::min(low, x.row(i)[j]), high = std::max(high, x.row(i)[j]);
      const float middle = shift.f32()[static_cast<std::size_t>(j)] =
          rounded(rounded(high + low) / 2);
      for (int i = 0; i < 8; ++i) x.row(i)[j] = rounded(x.row(i)[j] - middle);
    }
    for (std::int64_t r = 0; r < outputs; ++r) {
      double sum = 0;
      for (std::int64_t j = 0; j < 8; ++j)
        sum += static_cast<double>(p.weight.row(r)[j]) *
               static_cast<double>(shift.f32()[static_cast<std::size_t>(j)]);
      float& bias = p.bias.f32()[static_cast<std::size_t>(r)];
      bias = type == DType::kF32 ? static_cast<float>(static_cast<double>(bias) + sum)
                                 : rounded(bias + rounded(static_cast<float>(sum)));
    }
    inputs = std::move(x);
    p.x = {&inputs};
    batch = batch_2x4(true);
    p.batches = {&batch};
    o.include_padding = true;
  }

  void make_decoder_attention() {
    p.kind = SiteKind::kAttention;
    p.rows = {8, 8, 8};
    p.attention.num_heads = p.attention.num_kv_heads = 2;
    p.attention.head_dim = 4;
    p.attention.causal = true;
    p.attention.scale = 0.5F;
  }

  /// All losses; the race has to end with the same candidate.
  OsPlusResult run(const Setting& setting) {
    p.activations = setting.activations;
    p.weights = setting.weights;
    o.race.rule = RaceRule::kExact;
    const OsPlusResult raced = search_threshold(p, o, ctx);
    o.race.rule = RaceRule::kExhaustive;
    OsPlusResult all = search_threshold(p, o, ctx);
    EXPECT_EQ(raced.race.best, all.race.best);
    for (std::size_t c = 0; c < all.race.losses.size(); ++c)
      EXPECT_LE(raced.race.losses[c], all.race.losses[c] * (1 + 1e-12));
    return all;
  }

  void expect(const OsPlusResult& r, double threshold, double loss, double tolerance,
              int best = -1) {
    ASSERT_GE(r.race.best, 0);
    const auto at = static_cast<std::size_t>(r.race.best);
    EXPECT_NEAR(r.thresholds[at], threshold, 1e-6 * threshold);
    EXPECT_NEAR(r.race.losses[at] / loss, 1, tolerance);
    if (best >= 0) {
      EXPECT_EQ(r.race.best, best);
    }
  }

  ExecContext ctx{1};
  SiteProblem p;
  OsPlusOptions o;
  TokenBatch batch;
  Tensor inputs, shift;
};

TEST_F(OsPlusSearch, SingleLinear) {
  make(1, 6);
  p.kind = SiteKind::kMlp;
  p.rows = {6};
  const float want[] = {-0.0257766545F, 18.0899639F,   -0.16243948F,  -0.275927663F,
                        -24.9919529F,   0.0988735557F, 0.0012460351F, 0.00674653053F};
  for (std::size_t j = 0; j < 8; ++j) EXPECT_NEAR(shift.f32()[j], want[j], 2e-6F);
  OsPlusResult r = run(kInt8);
  EXPECT_EQ(r.race.losses.size(), 100U);
  EXPECT_NEAR(r.thresholds.back(), 1.03502611, kF32Products);
  EXPECT_NEAR(r.race.losses.front() / 4.86453384e-04, 1, kF32Products);
  EXPECT_NEAR(r.race.losses.back() / 4.85938072e-04, 1, kF32Products);
  expect(r, 2.3660183, 8.94187324e-05, kF32Products, 61);
  EXPECT_NEAR(r.scale.f32()[1], 1.18743145F, 1e-6);
  EXPECT_NEAR(r.scale.f32()[4], 1.90303314F, 1e-6);
  r = run(kInt6);
  expect(r, 1.07005227, 0.0022294193, kF32Products, 98);
  EXPECT_NEAR(r.scale.f32()[4], 4.20784235F, 2e-6);
  expect(run(kToken4), 1.38528728, 0.0181078892, kF32Products, 89);
  expect(run(kGroup4), 1.59544384, 0.0106358016, kF32Products, 83);
}

/// The official search with tensors of f16 and bf16, run for this test (torch 2.x on a CPU):
/// thresholds and scales that differ from those in f32.
TEST_F(OsPlusSearch, TensorsOfHalfPrecision) {
  struct Case {
    LossArithmetic arithmetic;
    bool attention;
    const Setting* setting;
    int best;
    double threshold, loss, scale_1, scale_4;
  };
  const Case cases[] = {
      {LossArithmetic::kF16, false, &kInt8, 61, 2.37109375, 0.000152298046, 1.18652344, 1.90429688},
      {LossArithmetic::kF16, false, &kInt6, 96, 1.140625, 0.00232060836, 2.46484375, 3.95898438},
      {LossArithmetic::kF16, false, &kToken4, 89, 1.38671875, 0.0182779822, 2.02734375, 3.25585938},
      {LossArithmetic::kF16, false, &kGroup4, 82, 1.6328125, 0.00986214727, 1.72265625, 2.765625},
      {LossArithmetic::kF16, true, &kInt8, 41, 2.30859375, 0.000253541133, 1, 1.39453125},
      {LossArithmetic::kF16, true, &kInt6, 97, 1.06640625, 0.00174249918, 1.93359375, 3.01757812},
      {LossArithmetic::kF16, true, &kToken4, 51, 2.087890625, 0.0193041395, 1, 1.54199219},
      {LossArithmetic::kF16, true, &kGroup4, 33, 2.486328125, 0.0127566205, 1, 1.29492188},
      {LossArithmetic::kBF16, false, &kInt8, 71, 2.015625, 0.000258318003, 1.4296875, 2.234375},
      {LossArithmetic::kBF16, false, &kInt6, 93, 1.2421875, 0.00172557367, 2.3125, 3.625},
      {LossArithmetic::kBF16, false, &kToken4, 90, 1.3515625, 0.0134012392, 2.125, 3.328125},
      {LossArithmetic::kBF16, false, &kGroup4, 68, 2.125, 0.00814538542, 1.3515625, 2.125},
      {LossArithmetic::kBF16, true, &kInt8, 38, 2.390625, 0.000906808011, 1, 1.359375},
      {LossArithmetic::kBF16, true, &kInt6, 81, 1.4296875, 0.00423758384, 1.484375, 2.265625},
      {LossArithmetic::kBF16, true, &kToken4, 61, 1.875, 0.0232282374, 1.1328125, 1.734375},
      {LossArithmetic::kBF16, true, &kGroup4, 71, 1.65625, 0.0100882398, 1.28125, 1.9609375}};
  for (const Case& c : cases) {
    SCOPED_TRACE(::testing::Message() << (c.arithmetic == LossArithmetic::kF16 ? "f16 " : "bf16 ")
                                      << (c.attention ? "qkv " : "fc1 ") << c.setting->name);
    p = SiteProblem();
    make(c.attention ? 7 : 1, c.attention ? 24 : 6, rounded_to(c.arithmetic));
    p.kind = SiteKind::kMlp;
    p.rows = {6};
    if (c.attention) make_decoder_attention();
    o.race.arithmetic = c.arithmetic;
    const OsPlusResult r = run(*c.setting);
    ASSERT_EQ(r.race.best, c.best);
    const auto at = static_cast<std::size_t>(c.best);
    EXPECT_FLOAT_EQ(round_to(rounded_to(c.arithmetic), static_cast<float>(r.thresholds[at])),
                    static_cast<float>(c.threshold));
    EXPECT_NEAR(r.race.losses[at] / c.loss, 1, 2e-2);
    EXPECT_FLOAT_EQ(r.scale.f32()[1], static_cast<float>(c.scale_1));
    EXPECT_FLOAT_EQ(r.scale.f32()[4], static_cast<float>(c.scale_4));
  }
}

/// Rows, or sequences that attend to each other, drawn at random: far fewer products, a loss that
/// can hardly be told apart.
TEST_F(OsPlusSearch, SampledRaceEndsNextToTheBest) {
  for (const bool attention : {false, true}) {
    SCOPED_TRACE(attention ? "attention" : "linear");
    Generator g(21);
    constexpr std::int64_t kSequences = 256, kLength = 16, kHidden = 32;
    batch = TokenBatch();
    batch.batch = kSequences;
    batch.length = kLength;
    batch.mask.assign(kSequences * kLength, 1);
    for (std::int64_t s = 1; s < kSequences; ++s)
      for (std::int64_t i = kLength - s % 5; i < kLength; ++i)
        batch.mask[static_cast<std::size_t>(s * kLength + i)] = 0;
    batch.ids = batch.type_ids = std::vector<std::int32_t>(batch.mask.size(), 0);
    inputs = g.make({kSequences * kLength, kHidden}, -1, 1);
    for (std::int64_t i = 0; i < inputs.rows(); ++i)
      for (const std::int64_t j : {3, 17}) inputs.row(i)[j] *= 25;
    p = SiteProblem();
    p.x = {&inputs};
    p.batches = {&batch};
    p.weight = g.make({3 * kHidden, kHidden}, -.1, .1);
    p.bias = g.make({3 * kHidden}, -.1, .1);
    p.rows = {3 * kHidden};
    if (attention) {
      make_decoder_attention();
      p.rows.assign(3, kHidden);
      p.attention.head_dim = kHidden / 2;
    }
    const OsPlusResult all = run(kInt8);
    o.race.rule = RaceRule::kSampled;
    const OsPlusResult sampled = search_threshold(p, o, ctx);
    o.race.rule = RaceRule::kExact;
    const OsPlusResult exact = search_threshold(p, o, ctx);
    ASSERT_GE(sampled.race.best, 0);
    const auto at = static_cast<std::size_t>(sampled.race.best);
    EXPECT_LE(all.race.losses[at], all.race.losses[static_cast<std::size_t>(all.race.best)] * 1.02);
    EXPECT_TRUE(sampled.race.complete[at]);
    EXPECT_NEAR(sampled.race.losses[at] / all.race.losses[at], 1, 1e-4);
    EXPECT_LT(sampled.race.rows, exact.race.rows * 3 / 4);
    ExecContext other{3};
    o.race.rule = RaceRule::kSampled;
    const OsPlusResult again = search_threshold(p, o, other);
    EXPECT_EQ(again.race.losses, sampled.race.losses) << "for any number of threads";
  }
}

TEST_F(OsPlusSearch, JointAttention) {
  make(7, 24);
  make_decoder_attention();
  OsPlusResult r = run(kInt8);
  EXPECT_EQ(r.race.losses.size(), 101U);
  EXPECT_NEAR(r.race.losses.front() / 3.30822775e-04, 1, 1e-4);  // the float target's own rounding
  expect(r, 1.55287552, 1.29998749e-04, 5e-5);
  EXPECT_NEAR(r.scale.f32()[4], 2.06810021F, 2e-6);
  expect(run(kInt6), 1.37595534, 0.00121370645, 5e-5);
  expect(run(kToken4), 2.08363605, 0.0197099466, 5e-5);
  expect(run(kGroup4), 2.72497153, 0.0120312525, 5e-5);
}

/// BLOOM as the reference splits it: ALiBi, and the rows of q, k and v taken for each other (vector
/// 5).
TEST_F(OsPlusSearch, AlibiInCompatLayout) {
  make(7, 24);
  make_decoder_attention();
  p.attention.alibi_slopes = {0.0625F, 0.00390625F};
  p.positions = {{0, 1, 2, 3, 0, 1, 2, 2}};
  expect(run(kInt8), 1.55287552, 1.30155458e-04, 1e-4);
  expect(run(kInt6), 1.37595534, 0.00121565501, 1e-4);
}

/// Heads are compared on their own; their losses add up to that of the whole attention, computed
/// here in one piece.
TEST_F(OsPlusSearch, HeadsAddUpToTheWholeAttention) {
  constexpr std::int64_t kHeads = 6, kKvHeads = 2, kDim = 8, kColumns = 24, kQ = kHeads * kDim,
                         kKv = kKvHeads * kDim;
  Generator g(5);
  TokenBatch batches[2];
  std::vector<Tensor> x, tables;
  for (std::int64_t b = 0; b < 2; ++b) {
    TokenBatch& t = batches[b];
    t.batch = 40 + b;
    t.length = 7 + b;
    for (std::int64_t s = 0; s < t.batch; ++s)
      for (std::int64_t i = 0; i < t.length; ++i)
        t.mask.push_back(s % 4 == 1 ? i > 1 : i < t.length - s % 3);  // left, right, none
    t.ids.assign(t.mask.size(), 0);
    x.push_back(g.make({t.rows(), kColumns}, -2, 2));
    tables.push_back(g.make({kHeads * t.length, t.length}, -1, 1));
  }
  for (const char* kind : {"plain", "rotary", "alibi", "table"}) {
    SCOPED_TRACE(kind);
    const std::string name = kind;
    p = SiteProblem();
    p.kind = SiteKind::kAttention;
    p.weight = g.make({kQ + 2 * kKv, kColumns}, -.4, .4);
    p.bias = g.make({p.weight.rows()}, -.2, .2);
    p.rows = {kQ, kKv, kKv};
    p.activations = spec(4, false, Granularity::kPerTensor);
    p.weights = spec(4, false, Granularity::kPerTensor);
    p.attention.num_heads = kHeads;
    p.attention.num_kv_heads = kKvHeads;
    p.attention.head_dim = kDim;
    p.attention.causal = name != "table";
    p.attention.scale = 0.3F;
    if (name == "rotary") p.attention.rotary_inv_freq = {1.0F, 0.3F, 0.1F};
    if (name == "alibi") p.attention.alibi_slopes = {.5F, .25F, .125F, .0625F, .03F, .01F};
    for (std::size_t b = 0; b < 2; ++b) {
      p.x.push_back(&x[b]);
      p.batches.push_back(&batches[b]);
      std::vector<std::int32_t>& at = p.positions.emplace_back();
      for (std::int64_t i = 0; i < batches[b].rows(); ++i)
        at.push_back(static_cast<std::int32_t>(i % batches[b].length));
      if (name == "table") p.position_bias.push_back(&tables[b]);
    }
    SiteCandidate candidate{.scale = g.make({kColumns}, 1, 1.5), .range = {-1.5F, 1.8F}};

    const ActivationQuant quant{p.activations, calculate_qparams(candidate.range, p.activations)};
    Tensor w = p.weight.clone();
    affine_columns(w, candidate.scale, TensorView(), w.span(), ctx);
    fake_quantize_weight(w, p.weights, w.span(), ctx);
    double sum = 0;
    std::int64_t tokens = 0;
    for (std::size_t b = 0; b < 2; ++b) {
      const auto attend = [&](const Tensor& input, const Tensor& weight) {
        Tensor y = Tensor::f32({input.rows(), weight.rows()});
        matmul_nt(input, weight, p.bias, y.span(), ctx);
        Tensor parts[3];
        for (std::int64_t i = 0, from = 0; i < 3; from += p.rows[static_cast<std::size_t>(i++)]) {
          parts[i] = Tensor::f32({y.rows(), p.rows[static_cast<std::size_t>(i)]});
          for (std::int64_t r = 0; r < y.rows(); ++r)
            std::copy_n(y.row(r) + from, parts[i].cols(), parts[i].row(r));
        }
        AttentionCall call{.spec = p.attention, .queries = batches[b], .keys = batches[b]};
        call.positions = p.positions[b];
        if (name == "table") call.bias = tables[b];
        return run_attention(call, {}, {parts[0], parts[1], parts[2]}, ctx);
      };
      Tensor scaled = x[b].clone();
      inverse_affine_columns(scaled, candidate.scale, TensorView(), scaled.span(), ctx);
      fake_quantize_activations(scaled, quant, Rounding::kDivide, scaled.span(), ctx);
      const Tensor is = attend(scaled, w), want = attend(x[b], p.weight);
      for (std::int64_t i = 0; i < is.rows(); ++i) {
        if (!batches[b].mask[static_cast<std::size_t>(i)]) continue;
        ++tokens;
        for (std::int64_t j = 0; j < kQ; ++j)
          sum += std::pow(static_cast<double>(is.row(i)[j] - want.row(i)[j]), 2);
      }
    }
    for (const LossArithmetic arithmetic : {LossArithmetic::kInteger, LossArithmetic::kF32})
      for (const RaceRule rule : {RaceRule::kExact, RaceRule::kSampled}) {
        const RaceResult r =
            race(p, {&candidate, 1}, {.arithmetic = arithmetic, .rule = rule}, ctx);
        EXPECT_NEAR(r.losses.front() / (sum / static_cast<double>(tokens)), 1, 1e-4);
        EXPECT_TRUE(r.complete.front());
        ExecContext many(4);
        EXPECT_EQ(race(p, {&candidate, 1}, {.arithmetic = arithmetic, .rule = rule}, many).losses,
                  r.losses);
      }
  }
}

TEST_F(OsPlusSearch, LlamaSites) {
  Generator g(11);
  Tensor x = g.make({8, 8}, -1, 1);
  for (int i = 0; i < 8; ++i) {
    x.row(i)[2] *= 9;
    x.row(i)[5] = x.row(i)[5] * 4 + 3;
  }
  Tensor qkv = g.make({24, 8}, -.5, .5), gate_up = g.make({12, 8}, -.5, .5);
  Tensor xd = g.make({8, 6}, -1, 1);
  for (float& v : xd.f32()) v *= 5;
  Tensor down = g.make({8, 6}, -.5, .5);
  batch = batch_2x4(true);
  p.batches = {&batch};
  o.include_padding = true;
  o.floor = 0.1;
  make_decoder_attention();
  p.attention.rotary_inv_freq = {1.0F, 0.01F};
  p.positions = {{0, 1, 2, 3, 0, 1, 2, 3}};

  p.weight = std::move(qkv);
  p.x = {&x};
  OsPlusResult r = run(kInt6);
  expect(r, 1.8832171, 0.00518376054, 5e-5);
  EXPECT_NEAR(r.scale.f32()[2], 2.74994159F, 2e-6);
  EXPECT_NEAR(r.scale.f32()[5], 3.69502115F, 2e-6);
  expect(run(kToken4), 2.08897281, 0.0509504415, 5e-5);

  p.kind = SiteKind::kGatedMlp;
  p.rows = {6, 6};
  p.weight = std::move(gate_up);
  expect(run(kToken4), 3.46067834, 0.135175392, 5e-5);

  p.kind = SiteKind::kDown;
  p.rows = {8};
  p.weight = std::move(down);
  p.x = {&xd};
  r = run(kToken4);
  EXPECT_EQ(r.race.losses.size(), 101U);
  expect(r, 4.35375547, 0.095178552, 1e-6);
  const float want[] = {1, 1, 1.00331223F, 1.07522953F, 1.13323152F, 1.02390552F};
  for (std::size_t j = 0; j < 6; ++j) EXPECT_NEAR(r.scale.f32()[j], want[j], 2e-6F);
}

TEST_F(OsPlusSearch, EdgesOfTheGridTerminate) {
  make(1, 6);
  p.kind = SiteKind::kMlp;
  p.rows = {6};
  for (float& v : inputs.f32()) v = 0.25F;
  OsPlusResult r = run(kInt8);  // below the floor: no candidate
  EXPECT_EQ(r.race.best, -1);
  for (const float s : r.scale.f32()) EXPECT_EQ(s, 1.0F);
  for (float& v : inputs.f32()) v = 1.0F;
  r = run(kInt8);  // exactly at the floor: one candidate
  EXPECT_EQ(r.race.losses.size(), 1U);
  std::fill(batch.mask.begin(), batch.mask.end(), 0);
  EXPECT_THROW(run(kInt8), Error);  // nothing to measure the loss on
}

/// Algorithm 1 of the paper: max * k / K down to a K-th, below every floor.
TEST_F(OsPlusSearch, GridOfThePaper) {
  make(1, 6);
  p.kind = SiteKind::kMlp;
  p.rows = {6};
  float largest = 0;
  for (const float v : inputs.f32()) largest = std::max(largest, std::fabs(v));
  o.grid = ThresholdGrid::kPaper;
  const OsPlusResult r = run(kInt8);
  ASSERT_EQ(r.thresholds.size(), 100U);
  for (std::size_t i = 0; i < 100; ++i)
    EXPECT_NEAR(r.thresholds[i], static_cast<double>(largest) * static_cast<double>(100 - i) / 100,
                1e-12);
  EXPECT_GE(r.race.best, 0);
  for (float& v : inputs.f32()) v = 0;
  EXPECT_EQ(run(kInt8).race.best, -1);
}

/// Codes that one candidate leaves for the next are those that it would have made itself, whatever
/// their order.
TEST_F(OsPlusSearch, CandidatesDoNotDependOnThoseBefore) {
  constexpr std::int64_t kColumns = 64, kOutputs = 70, kRows = 40;
  Generator g(21);
  Tensor x = g.make({kRows, kColumns}, -1, 1);
  for (std::int64_t i = 0; i < kRows; ++i)
    for (std::int64_t j = 0; j < 12; ++j) x.row(i)[5 * j] *= static_cast<float>(2 + j);
  TokenBatch rows;
  rows.batch = 1;
  rows.length = kRows;
  rows.ids = rows.mask = std::vector<std::int32_t>(kRows, 1);
  SiteProblem q;
  q.kind = SiteKind::kMlp;
  q.rows = {kOutputs};
  q.batches = {&rows};
  q.x = {&x};
  q.weight = g.make({kOutputs, kColumns}, -.5, .5);
  std::vector<SiteCandidate> candidates;
  for (int c = 0; c < 30; ++c) {
    const float t = 13.0F - 0.4F * static_cast<float>(c);
    SiteCandidate& candidate = candidates.emplace_back();
    candidate.scale = Tensor::f32({kColumns});
    for (std::int64_t j = 0; j < kColumns; ++j) {
      const float most = j % 5 == 0 && j < 60 ? static_cast<float>(2 + j / 5) : 1.0F;
      candidate.scale.f32()[static_cast<std::size_t>(j)] = std::max(1.0F, most / t);
    }
    candidate.range = {-t, t};
  }
  std::swap(candidates[7], candidates[22]);
  RaceOptions all;
  all.rule = RaceRule::kExhaustive;
  for (const Setting& setting : {kInt8, kInt6, kToken4}) {
    q.activations = setting.activations;
    q.weights = setting.weights;
    const RaceResult together = race(q, candidates, all, ctx);
    for (std::size_t c = 0; c < candidates.size(); ++c)
      EXPECT_EQ(race(q, {&candidates[c], 1}, all, ctx).losses.front(), together.losses[c])
          << setting.name << " " << c;
  }
}

TEST_F(OsPlusSearch, SameResultForAnyNumberOfThreads) {
  make(1, 6);
  p.kind = SiteKind::kMlp;
  p.rows = {6};
  const OsPlusResult one = run(kInt6);
  ExecContext three(3);
  const OsPlusResult other = search_threshold(p, o, three);
  EXPECT_EQ(one.race.losses, other.race.losses);
}

}  // namespace
}  // namespace quell
