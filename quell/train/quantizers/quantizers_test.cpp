// What the golden data does not show: invariants, codes against values, bad settings.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "quell/base/error.h"
#include "quell/train/fake_quantizer.h"
#include "quell/train/quant_noise.h"
#include "quell/train/quantizers/test_weights.h"

namespace quell::train {
namespace {

/// Every quantizer in the forms that recipes take.
std::vector<QuantizerChoice> all_choices() {
  return {{"twn", {}},
          {"twn", {{"granularity", "row"}, {"clip", "2.5"}}},
          {"twn", {{"granularity", "group"}, {"group_size", "4"}}},
          {"twn_mx", {}},
          {"laq", {{"bits", "2"}}},
          {"laq", {{"bits", "4"}, {"granularity", "row"}}},
          {"lat", {}},
          {"lat", {{"solution", "exact"}, {"granularity", "row"}}},
          {"lsq", {{"bits", "2"}}},
          {"lsq", {{"bits", "8"}, {"granularity", "row"}}},
          {"lsq", {{"symmetric", "false"}}},
          {"pact", {{"start", "mean"}}},
          {"pact", {{"bits", "8"}, {"start", "max"}, {"granularity", "row"}}},
          {"pact_clip", {{"bits", "4"}, {"granularity", "row"}}},
          {"dynscale", {}},
          {"dynscale", {{"bits", "4"}, {"start", "least_error"}, {"granularity", "row"}}},
          {"min_max", {}},
          {"int_asym", {{"group_size", "4"}}},
          {"int_asym", {{"granularity", "row"}, {"bits", "3"}, {"rounding", "half_even"}}},
          {"nf3", {{"group_size", "4"}}},
          {"quant_noise", {{"bits", "4"}}},
          {"quant_noise", {{"noise", "pq"}, {"block_size", "4"}, {"centroids", "6"}}},
          {"quant_noise", {{"noise", "zero"}, {"block_size", "4"}}},
          {"ipq", {{"block_size", "4"}, {"centroids", "6"}}},
          {"absmean", {}},
          {"absmean", {{"granularity", "row"}}},
          {"seq", {}},
          {"seq", {{"bits", "2"}}},
          {"seq", {{"bits", "4"}, {"granularity", "tensor"}}},
          {"dynamic", {}},
          {"dynamic", {{"symmetric", "false"}}},
          {"dynamic", {{"granularity", "tensor"}, {"clip", "2.5"}}},
          {"static_step", {}},
          {"static_step", {{"symmetric", "false"}, {"source", "observed"}}}};
}

std::string describe(const QuantizerChoice& choice) {
  std::string text = choice.name;
  for (const auto& [key, value] : choice.settings) text += " " + key + "=" + value;
  return text;
}

TEST(TrainingQuantizers, EveryOneIsTriedBelow) {
  std::set<std::string> tried;
  for (const QuantizerChoice& choice : all_choices()) tried.insert(choice.name);
  for (const QuantizerFactory* factory : all_of(static_cast<const QuantizerFactory*>(nullptr)))
    EXPECT_TRUE(tried.contains(std::string(factory->name))) << factory->name;
}

TEST(TrainingQuantizers, CodesAreWhatTheForwardPassComputes) {
  for (const QuantizerChoice& choice : all_choices()) {
    SCOPED_TRACE(describe(choice));
    const auto quantizer = make_quantizer(choice.name, choice.settings);
    const torch::Tensor w = normal_weights({12, 16}, 3);
    quantizer->initialize(w);
    quantizer->begin_step({.training = false});
    const DeployableForm form = quantizer->deployable();
    EXPECT_FALSE(form.text.empty());
    if (!quantizer_factory(choice.name).weights) continue;
    if (!form.spec) {
      EXPECT_THROW(quantizer->codes(w), Error);
      EXPECT_TRUE(form.text.starts_with("none: ")) << form.text;
      continue;
    }

    const WeightCodes c = quantizer->codes(w);
    EXPECT_GE(c.codes.min().item<int>(), form.spec->min_code());
    EXPECT_LE(c.codes.max().item<int>(), form.spec->max_code());
    std::int64_t groups = 1;
    if (form.spec->granularity == Granularity::kPerChannel) groups = w.size(0);
    if (form.spec->granularity == Granularity::kPerGroup)
      groups = w.numel() / form.spec->group_size;
    EXPECT_EQ(c.steps.numel(), groups);
    const torch::Tensor value = (c.codes - c.zeros) * c.steps;
    const torch::Tensor fake = quantizer->quantize(w).reshape_as(value);
    EXPECT_LT((value - fake).abs().max().item<double>(), 1e-14);
    EXPECT_GT(fake.abs().max().item<double>(), 0);
  }
}

TEST(TrainingQuantizers, RowsCanBeQuantizedAlone) {
  std::set<std::string> alone;
  for (const QuantizerChoice& choice : all_choices()) {
    const auto quantizer = make_quantizer(choice.name, choice.settings);
    if (!quantizer->row_by_row()) continue;
    alone.insert(choice.name);
    const torch::Tensor w = normal_weights({12, 16}, 61);
    const torch::Tensor rows = torch::tensor({7, 2, 7}, torch::kInt64);
    const torch::Tensor all = quantizer->quantize(w);
    EXPECT_TRUE(
        torch::equal(quantizer->quantize(w.index_select(0, rows)), all.index_select(0, rows)))
        << describe(choice);
  }
  EXPECT_EQ(alone, (std::set<std::string>{"absmean", "int_asym", "laq", "min_max", "nf3", "twn"}));
}

/// A padding row, a dead unit, an empty batch of tokens: never 0 / 0.
TEST(TrainingQuantizers, ZerosStayFinite) {
  for (const torch::Dtype dtype : {torch::kFloat32, torch::kFloat64})
    for (const QuantizerChoice& choice : all_choices()) {
      SCOPED_TRACE(describe(choice));
      for (const bool all : {false, true}) {
        const bool clusters = choice.name == "ipq" || choice.settings.contains("centroids");
        if (all && clusters) continue;  // fewer different blocks than centroids
        torch::Tensor w = normal_weights({12, 16}, 5).to(dtype);
        if (all) w.zero_();
        w[2].zero_();
        w.requires_grad_(true);
        const auto quantizer = make_quantizer(choice.name, choice.settings);
        quantizer->initialize(w);
        const torch::Tensor out = quantizer->quantize(w);
        EXPECT_EQ(out.scalar_type(), w.scalar_type());
        EXPECT_TRUE(out.isfinite().all().item<bool>());
        out.square().sum().backward();
        if (w.grad().defined()) {
          EXPECT_TRUE(w.grad().isfinite().all().item<bool>());
        }
        for (const NamedTensor& p : quantizer->parameters())
          if (p.value.grad().defined()) {
            EXPECT_TRUE(p.value.grad().isfinite().all().item<bool>()) << p.name;
          }
      }
    }
}

TEST(TrainingQuantizers, NoMoreLevelsThanTheBitsSay) {
  for (const int bits : {2, 3, 4, 5}) {
    const auto levels = static_cast<std::int64_t>(std::exp2(bits)) - 1;
    const std::string text = std::to_string(bits);
    for (const QuantizerChoice& choice :
         {QuantizerChoice{"laq", {{"bits", text}}}, QuantizerChoice{"pact", {{"bits", text}}},
          QuantizerChoice{"dynscale", {{"bits", text}, {"start", "least_error"}}},
          QuantizerChoice{"pact_clip", {{"bits", text}}}}) {
      const torch::Tensor w = normal_weights({40, 50}, 7).to(torch::kFloat32);
      const auto quantizer = make_quantizer(choice.name, choice.settings);
      quantizer->initialize(w);
      const torch::Tensor out = quantizer->quantize(w).abs();
      // Magnitudes, since 0 may have either sign.
      EXPECT_EQ(std::get<0>(at::_unique(out)).numel(), (levels + 1) / 2) << describe(choice);
    }
  }
}

TEST(TrainingQuantizers, FollowTheScaleOfTheWeight) {
  const torch::Tensor w = normal_weights({8, 12}, 11);
  for (const char* name : {"twn", "laq", "lat", "dynscale", "absmean", "twn_mx"}) {
    const auto at = [&](double k) {
      const auto quantizer = make_quantizer(name, {{"granularity", "row"}});
      quantizer->initialize(k * w);
      return quantizer->quantize(k * w);
    };
    // Powers of two change no rounding.
    EXPECT_TRUE(torch::equal(at(4), 4 * at(1))) << name;
    EXPECT_LT((at(3) - 3 * at(1)).abs().max().item<double>(), 1e-13) << name;
  }
  const auto clipped = make_quantizer("twn", {{"clip", "2.5"}});
  EXPECT_FALSE(torch::allclose(clipped->quantize(4 * w), 4 * clipped->quantize(w)));
}

TEST(TrainingQuantizers, NoiseBetweenNothingAndEverything) {
  const torch::Tensor w = normal_weights({30, 40}, 23);
  const auto noised = [&](const char* p, std::uint64_t seed, bool training = true) {
    const auto q = make_quantizer("quant_noise", {{"bits", "4"}, {"p", p}});
    q->begin_step({.training = training, .seed = seed});
    return q->quantize(w);
  };
  const torch::Tensor all = noised("1", 1);
  EXPECT_TRUE(torch::equal(noised("0", 1), w));
  EXPECT_FALSE((all == w).any().item<bool>());
  EXPECT_TRUE(torch::equal(noised("0.3", 1, false), all));

  const torch::Tensor some = noised("0.3", 1);
  EXPECT_TRUE(torch::logical_or(some == w, some == all).all().item<bool>());
  EXPECT_NEAR((some == all).to(torch::kFloat64).mean().item<double>(), 0.3, 0.04);
  EXPECT_TRUE(torch::equal(some, noised("0.3", 1)));
  EXPECT_FALSE(torch::equal(some, noised("0.3", 2)));

  const auto proxy = make_quantizer(
      "quant_noise", {{"noise", "zero"}, {"p", "0.25"}, {"block_size", "8"}, {"rescale", "true"}});
  proxy->begin_step({.seed = 5});
  const torch::Tensor blocks = proxy->quantize(w).reshape({-1, 8});
  const torch::Tensor dropped = (blocks == 0).all(1);
  EXPECT_GT(dropped.sum().item<int>(), 0);
  const torch::Tensor wrong = (blocks - w.reshape({-1, 8}) / 0.75).abs().amax(1);
  EXPECT_LT(wrong.masked_fill(dropped, 0).max().item<double>(), 1e-14);
  proxy->begin_step({.training = false});
  EXPECT_TRUE(torch::equal(proxy->quantize(w), w));
}

TEST(TrainingQuantizers, StaticStepsFollowTheirBatchesUntilTheyAreFrozen) {
  const auto q = make_quantizer("static_step", {{"source", "observed"}, {"momentum", "0.5"}});
  q->initialize(torch::tensor({-1.0, 2.0}, torch::kFloat64));
  const auto step = [&] { return q->state()[1].value.item<double>(); };
  EXPECT_DOUBLE_EQ(step(), 2.0 / 127);
  const torch::Tensor batch = torch::tensor({-6.0, 3.0}, torch::kFloat64);
  q->begin_step({.training = false});
  q->quantize(batch);
  EXPECT_DOUBLE_EQ(step(), 2.0 / 127);
  q->begin_step({});
  q->quantize(batch);
  EXPECT_DOUBLE_EQ(step(), 3.5 / 127);
  q->begin_step({.frozen = true});
  EXPECT_NEAR(q->quantize(batch)[0].item<double>(), -3.5, 1e-14);
  EXPECT_DOUBLE_EQ(step(), 3.5 / 127);

  const auto learned = make_quantizer("static_step", {{"symmetric", "false"}});
  const torch::Tensor x = normal_weights({4, 8}, 41).requires_grad_(true);
  learned->initialize(x);
  learned->begin_step({.frozen = true});
  learned->quantize(x).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  for (const NamedTensor& p : learned->parameters()) EXPECT_FALSE(p.value.grad().defined());
}

/// What the engines compute at run time (quell/quant/quant_spec.h), from the range of each token.
TEST(TrainingQuantizers, DynamicStepsAreThoseOfTheEngines) {
  const torch::Tensor x = normal_weights({20, 24}, 43).to(torch::kFloat32);
  for (const char* symmetric : {"true", "false"}) {
    const auto quantizer = make_quantizer("dynamic", {{"symmetric", symmetric}});
    const QuantSpec spec = quantizer->deployable().spec.value();
    const torch::Tensor got = quantizer->quantize(x);
    for (int r = 0; r < 20; ++r) {
      const Range range{x[r].min().item<float>(), x[r].max().item<float>()};
      const StepAndZero s = calculate_qparams(range, spec);
      for (int c = 0; c < 24; ++c) {
        const float code = std::clamp(
            std::nearbyint(x[r][c].item<float>() / s.scale) + static_cast<float>(s.zero_point),
            static_cast<float>(spec.min_code()), static_cast<float>(spec.max_code()));
        const float want = (code - static_cast<float>(s.zero_point)) * s.scale;
        EXPECT_NEAR(got[r][c].item<float>(), want, 1e-6F);
      }
    }
  }
}

TEST(TrainingQuantizers, RefuseWhatDoesNotFit) {
  const auto message = [](const std::string& name, const QuantizerChoice::Settings& settings,
                          const torch::Tensor& x) -> std::string {
    try {
      const auto q = make_quantizer(name, settings);
      q->initialize(x);
      q->quantize(x);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  const torch::Tensor w = normal_weights({4, 6}, 47);
  EXPECT_NE(message("twm", {}, w).find("known are absmean"), std::string::npos);
  EXPECT_EQ(message("twn", {{"clop", "1"}}, w),
            "quantizer twn: unknown key \"clop\"; known are granularity, group_size, clip, factor");
  EXPECT_NE(message("twn", {{"clip", "-1"}}, w).find("not a number"), std::string::npos);
  EXPECT_NE(message("lsq", {{"bits", "9"}}, w).find("from 2 to 8"), std::string::npos);
  EXPECT_NE(message("nf3", {}, w).find("needs group_size"), std::string::npos);
  EXPECT_NE(message("twn", {{"group_size", "3"}}, w).find("no effect"), std::string::npos);
  EXPECT_NE(message("nf3", {{"group_size", "4"}}, w).find("does not divide 6"), std::string::npos);
  EXPECT_NE(message("dynamic", {{"granularity", "head"}}, w).find("not 2 dimensions"),
            std::string::npos);
  EXPECT_NE(message("quant_noise", {{"rescale", "true"}}, w).find("rescale needs"),
            std::string::npos);
  EXPECT_NE(message("twn", {}, torch::zeros({0, 4})).find("without elements"), std::string::npos);

  for (const char* name : {"lsq", "pact", "dynscale", "static_step"}) {
    const auto q = make_quantizer(name, {});
    EXPECT_THROW(q->quantize(w), Error) << name;
    q->initialize(w);
    {
      const torch::NoGradGuard guard;
      q->parameters()[0].value.fill_(-0.5);
    }
    try {
      q->quantize(w);
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("became -0.5"), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace quell::train
