// What the golden data does not show: invariants, codes against values, methods without golden data
// against plain loops, bad settings.
#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/error.h"
#include "quell/train/clip_search.h"
#include "quell/train/fake_quantizer.h"
#include "quell/train/product_quantization.h"
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
          {"lat", {{"solution", "alternating"}, {"granularity", "row"}}},
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

TEST(TrainingQuantizers, AbsmeanIsThePapersFormula) {
  for (const bool row : {false, true}) {
    const torch::Tensor w = normal_weights({5, 9}, 13);
    const torch::Tensor got =
        make_quantizer("absmean", {{"granularity", row ? "row" : "tensor"}})->quantize(w);
    const auto* x = w.data_ptr<double>();
    for (int i = 0; i < 45; ++i) {
      const int first = row ? i / 9 * 9 : 0;
      const int count = row ? 9 : 45;
      double scale = 0;
      for (int j = first; j < first + count; ++j) scale += std::abs(x[j]) / count;
      double want = 0;
      if (x[i] > scale / 2) want = scale;
      if (x[i] < -scale / 2) want = -scale;
      EXPECT_NEAR(got.data_ptr<double>()[i], want, 1e-14);
    }
  }
}

/// The best of all 3^n codes, each with its best scale.
double least_ternary_error(const std::vector<double>& w, const std::vector<double>& d) {
  double least = HUGE_VAL;
  int total = 1;
  for (std::size_t i = 0; i < w.size(); ++i) total *= 3;
  for (int index = 0; index < total; ++index) {
    double dot = 0;
    double norm = 0;
    double energy = 0;
    for (std::size_t i = 0, rest = static_cast<std::size_t>(index); i < w.size(); ++i, rest /= 3) {
      const double q = static_cast<double>(rest % 3) - 1;
      dot += d[i] * q * w[i];
      norm += d[i] * q * q;
      energy += d[i] * w[i] * w[i];
    }
    least = std::min(least, norm > 0 ? energy - dot * dot / norm : energy);
  }
  return least;
}

TEST(TrainingQuantizers, LatFindsTheBestTernaryWeights) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    const torch::Tensor w = normal_weights({1, 9}, seed);
    const torch::Tensor moment = normal_weights({1, 9}, seed + 100).square();
    const std::vector<double> values(w.data_ptr<double>(), w.data_ptr<double>() + 9);
    std::vector<double> d;
    for (int i = 0; i < 9; ++i) d.push_back(std::sqrt(moment.data_ptr<double>()[i]));
    const auto error_of = [&](const char* solution) {
      const auto lat = make_quantizer("lat", {{"solution", solution}});
      lat->begin_step({.second_moment = moment});
      return (moment.sqrt() * (lat->quantize(w) - w).square()).sum().item<double>();
    };
    const double least = least_ternary_error(values, d);
    EXPECT_NEAR(error_of("exact"), least, 1e-9);
    EXPECT_GE(error_of("alternating"), least - 1e-9);
    EXPECT_LE(error_of("alternating"), 1.5 * least);

    // Without a metric it is another problem.
    const auto plain = make_quantizer("lat", {});
    EXPECT_NEAR((plain->quantize(w) - w).square().sum().item<double>(),
                least_ternary_error(values, std::vector<double>(9, 1)), 1e-9);
  }
}

TEST(TrainingQuantizers, SeqHasThePapersLevels) {
  for (const auto& [bits, half, shift] :
       {std::tuple{"1.58", 1.5, 0.0}, std::tuple{"2", 2.0, 0.5}, std::tuple{"3", 4.0, 0.5}}) {
    const torch::Tensor w = normal_weights({6, 40}, 17);
    const auto seq = make_quantizer("seq", {{"bits", bits}});
    seq->initialize(w);
    const torch::Tensor got = seq->quantize(w);
    for (int r = 0; r < 6; ++r) {
      const auto alpha = w[r].abs().max().item<double>();
      EXPECT_EQ(seq->parameters()[0].value[r][0].item<double>(), alpha);
      for (int c = 0; c < 40; ++c) {
        const auto u = std::clamp(w[r][c].item<double>() / alpha, -0.99, 0.99);
        const double level = (std::nearbyint(u * half - shift) + shift) / half;
        EXPECT_NEAR(got[r][c].item<double>(), level * alpha, 1e-14);
      }
    }
  }
}

/// 42.5 % of normal weights lie beyond the mean magnitude; the best clip is farther out the more
/// bits there are.
TEST(TrainingQuantizers, LeastErrorStartsOfNormalWeights) {
  const torch::Tensor w = normal_weights({200, 1000}, 19);
  for (const auto& [bits, gamma] :
       {std::pair{2, 1.54}, std::pair{3, 2.44}, std::pair{4, 3.10}, std::pair{8, 4.92}}) {
    const auto error_with = [&, b = bits](const char* start) {
      const auto q = make_quantizer("dynscale", {{"bits", std::to_string(b)}, {"start", start}});
      q->initialize(w);
      const double error = (q->quantize(w) - w).square().mean().item<double>();
      return std::pair{q->parameters()[0].value.item<double>(), error};
    };
    const auto [found, error] = error_with("least_error");
    EXPECT_NEAR(found, gamma, 0.03 * gamma) << bits;
    EXPECT_LT(error, error_with("1").second);
    for (const double near : {0.9, 1.1})
      EXPECT_LT(error, error_with(std::to_string(near * found).c_str()).second) << bits;
  }
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

TEST(TrainingQuantizers, ProductQuantization) {
  // Two pairs of neighbours, from either one of each.
  const torch::Tensor w =
      torch::tensor({{0.0, 0.0, 10.0, 10.0}, {0.0, 1.0, 10.0, 11.0}}, torch::kFloat64);
  ProductSettings settings;
  settings.block_size = 2;
  settings.centroids = 2;
  ProductChance chance;
  chance.start = torch::tensor({0, 2}, torch::kInt64);
  const ProductCode code = fit_product(w, settings, chance);
  EXPECT_TRUE(
      torch::equal(code.centroids, torch::tensor({{0.0, 0.5}, {10.0, 10.5}}, torch::kFloat64)));
  EXPECT_DOUBLE_EQ(code.objective.back(), 1.0);

  // Random starts, clusters split where they are empty: repeatable, and never worse.
  const torch::Tensor big = normal_weights({32, 32}, 29);
  settings = {.block_size = 4, .centroids = 40};
  const ProductCode a = fit_product(big, settings, chance_from(3, big, settings));
  const ProductCode b = fit_product(big, settings, chance_from(3, big, settings));
  EXPECT_TRUE(torch::equal(a.centroids, b.centroids));
  EXPECT_EQ(a.objective.size(), 15U);
  for (std::size_t i = 1; i < a.objective.size(); ++i)
    EXPECT_LE(a.objective[i], a.objective[i - 1] + 1e-9);
  EXPECT_EQ(std::get<0>(at::_unique(a.assignments)).numel(), 40);
  settings.centroids = 257;
  EXPECT_THROW(fit_product(big, settings, chance_from(3, big, settings)), Error);
  settings = {.block_size = 5, .centroids = 4};
  EXPECT_THROW(fit_product(big, settings, chance_from(3, big, settings)), Error);
}

TEST(TrainingQuantizers, ClippingSearchLowersTheErrorOfTheOutputs) {
  const torch::Tensor w = normal_weights({6, 32}, 31);
  const torch::Tensor x = normal_weights({50, 32}, 37);
  const auto quantizer = make_quantizer("int_asym", {{"group_size", "16"}, {"bits", "2"}});
  const auto quantize = [&](const torch::Tensor& groups) { return quantizer->quantize(groups); };
  const Clips clips = search_clips(w, x, {.group_size = 16, .sample_tokens = 50}, quantize);
  const auto error_of = [&](const torch::Tensor& clamped) {
    const torch::Tensor difference = (quantizer->quantize(clamped) - w).reshape({6, 2, 16});
    const torch::Tensor inputs = x.reshape({50, 2, 16});
    return torch::einsum("tgc,rgc->trg", {inputs, difference}).square().mean(0);
  };
  const torch::Tensor found = error_of(clamp_to(w, clips));
  EXPECT_TRUE(torch::allclose(found, clips.error));
  EXPECT_TRUE((found <= error_of(w) + 1e-12).all().item<bool>());
  EXPECT_LT(found.sum().item<double>(), 0.9 * error_of(w).sum().item<double>());
  EXPECT_THROW(search_clips(w, x, {.group_size = 5}, quantize), Error);
  EXPECT_THROW(search_clips(w, x.slice(1, 0, 16), {.group_size = 16}, quantize), Error);
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
