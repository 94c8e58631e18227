// Every run of golden/qat/quantizers: values and gradients of reference code, in f32 and f64.
#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <functional>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/train/clip_search.h"
#include "quell/train/fake_quantizer.h"
#include "quell/train/product_quantization.h"
#include "quell/train/quant_noise.h"
#include "quell/train/quantizers/fairseq_reference.h"
#include "tests/train/golden_run.h"

namespace quell::train {
namespace {

using Settings = std::map<std::string, std::string>;

/// `rowwise`, `per_tensor`, or `granularity`, and `group_size` (-1: the row).
void granularity_to(GoldenRun& run, Settings& settings) {
  if (run.has("rowwise")) settings["granularity"] = run.flag("rowwise") ? "row" : "tensor";
  if (run.has("per_tensor")) settings["granularity"] = run.flag("per_tensor") ? "tensor" : "row";
  if (run.has("granularity")) settings["granularity"] = run.text("granularity");
  if (!run.has("group_size")) return;
  const std::string size = run.text("group_size");
  if (size == "none") return;
  settings["granularity"] = size == "-1" ? "row" : "group";
  if (size != "-1") settings["group_size"] = size;
}
/// Those of the same name on both sides.
void copy_to(GoldenRun& run, Settings& settings, const std::vector<std::string>& keys) {
  for (const std::string& key : keys)
    if (run.has(key)) settings[key] = run.text(key);
}

/// Output, gradient of the input `name`, and gradients of the parameters, which start from the
/// inputs of their name where the run has them.
Tensors quantize_once(const GoldenRun& run, const std::string& name, FakeQuantizer& quantizer,
                      const std::map<std::string, std::string>& parameter_names = {}) {
  const torch::Tensor x = run.input(name).clone().requires_grad_(true);
  quantizer.initialize(x);
  Tensors out;
  for (const auto& [parameter, label] : parameter_names)
    for (const NamedTensor& p : quantizer.parameters()) {
      const torch::NoGradGuard guard;
      if (p.name != parameter) continue;
      if (run.has_input(label)) p.value.copy_(run.input(label).reshape_as(p.value));
      out[label] = p.value.detach().clone();
    }

  const torch::Tensor latent = x.detach().clone();
  out["out"] = quantizer.quantize(x);
  out["out"].backward(run.input("g"));
  out["grad_" + name] = x.grad();
  EXPECT_TRUE(torch::equal(x.detach(), latent)) << "the forward pass changed the latent weight";
  for (const auto& [parameter, label] : parameter_names)
    for (const NamedTensor& p : quantizer.parameters())
      if (p.name == parameter) out["grad_" + label] = p.value.grad();
  return out;
}

Tensors twn(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  copy_to(run, s, {"clip", "factor"});
  return quantize_once(run, "W", *make_quantizer("twn", s));
}

/// KD-QAT's clipped weights lie halfway between two codes: which of them depends on the last bit of
/// the step, in the reference too.
torch::Tensor slack_of_twn_mx(GoldenRun& run) {
  const double clip = run.text("clip") == "none" ? HUGE_VAL : run.number("clip");
  const torch::Tensor w = run.input("W").to(torch::kFloat64).clamp(-clip, clip).abs();
  Settings settings;
  granularity_to(run, settings);
  const torch::Tensor rows = settings.at("granularity") == "row" ? w : w.reshape({1, -1});
  const torch::Tensor large = (rows > rows.mean(1, true)).to(torch::kFloat64);
  const torch::Tensor limit = (rows * large).sum(1, true) / large.sum(1, true);
  const torch::Tensor step = 2 * limit / (std::exp2(run.number("bits")) - 1);
  return (rows >= (1 - 1e-6) * limit) * step * 1.001;
}

Tensors twn_mx(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  copy_to(run, s, {"clip", "bits"});
  Tensors out = quantize_once(run, "W", *make_quantizer("twn_mx", s));
  out["out.slack"] = slack_of_twn_mx(run);
  return out;
}

Tensors laq(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  copy_to(run, s, {"bits", "alternations"});
  return quantize_once(run, "W", *make_quantizer("laq", s));
}

Tensors lsq(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  copy_to(run, s, {"bits", "symmetric"});
  EXPECT_EQ(run.flag("init"), !run.has_input("s"));
  return quantize_once(run, "W", *make_quantizer("lsq", s), {{"step", "s"}});
}

Tensors pact_weight(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  copy_to(run, s, {"bits"});
  return quantize_once(run, "W", *make_quantizer("pact_clip", s), {{"clip", "clip"}});
}

Tensors dynscale(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  copy_to(run, s, {"bits", "detach_mean"});
  return quantize_once(run, "W", *make_quantizer("dynscale", s), {{"gamma", "gamma"}});
}

Tensors act_quant(GoldenRun& run) {
  Settings s = {{"zero_point", "exact"}};
  granularity_to(run, s);
  copy_to(run, s, {"bits", "symmetric", "clip"});
  return quantize_once(run, "x", *make_quantizer("dynamic", s));
}

Tensors int_asym(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  copy_to(run, s, {"bits"});
  return quantize_once(run, "W", *make_quantizer("int_asym", s));
}

Tensors int_asym_pseudo(GoldenRun& run) {
  Settings s = {{"rounding", "half_even"}};
  granularity_to(run, s);
  copy_to(run, s, {"bits"});
  return quantize_once(run, "W", *make_quantizer("int_asym", s));
}

Tensors int_asym_ste(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  copy_to(run, s, {"bits"});
  return quantize_once(run, "W", *make_quantizer("min_max", s));
}

Tensors nf3(GoldenRun& run) {
  Settings s;
  granularity_to(run, s);
  EXPECT_EQ(run.integer("bits"), 3);
  return quantize_once(run, "W", *make_quantizer("nf3", s));
}

Tensors asym_clip_search(GoldenRun& run) {
  ClipSearch settings;
  settings.group_size = run.integer("group_size");
  settings.grid = static_cast<int>(run.integer("n_grid"));
  settings.max_shrink = run.number("max_shrink");
  settings.sample_tokens = run.integer("n_sample_token");
  const std::string type = run.text("quant_type");
  const std::string bits = run.text("bits");
  if (type != "int" && type != "nf3") throw std::out_of_range("quant_type " + type);

  Settings s = {{"granularity", "row"}};
  if (type == "int") s.insert({{"bits", bits}, {"rounding", "half_even"}});
  const auto quantizer = make_quantizer(type == "int" ? "int_asym" : "nf3", s);
  const Clips clips =
      search_clips(run.input("W"), run.input("x"), settings,
                   [&](const torch::Tensor& groups) { return quantizer->quantize(groups); });
  return {{"best_max", clips.high},
          {"best_min", clips.low},
          {"min_err", clips.error},
          {"runner_up_margin", (clips.runner_up - clips.error) / clips.error},
          {"clamped_W", clamp_to(run.input("W"), clips)}};
}

Tensors ipq_kmeans(GoldenRun& run) {
  ProductSettings settings;
  settings.block_size = run.integer("block_size");
  settings.centroids = run.integer("n_centroids");
  settings.iterations = static_cast<int>(run.integer("n_iter"));
  settings.eps = run.number("eps");

  // What the reference drew.
  std::vector<std::int64_t> splits;
  if (run.has("split_clusters"))
    splits = Json::parse(run.text("split_clusters")).get<std::vector<std::int64_t>>();
  std::size_t chosen = 0;
  std::int64_t drawn = 0;
  ProductChance chance;
  chance.start = run.input("init");
  chance.choose = [&](const std::vector<std::int64_t>& /*empty*/) { return splits.at(chosen++); };
  chance.noise = [&] { return run.input("split_noise")[drawn++]; };

  const torch::Tensor& w = run.input("W");
  const ProductCode code = fit_product(w, settings, chance);
  EXPECT_EQ(chosen, splits.size()) << "clusters that were split";
  const torch::Tensor centroids = code.centroids.clone().requires_grad_(true);
  const torch::Tensor decoded = decode_product(centroids, code.assignments, w.size(0));
  decoded.backward(run.input("g"));
  return {{"centroids", code.centroids},
          {"assignments", code.assignments},
          {"objective", torch::tensor(code.objective, torch::kFloat64)},
          {"decoded", decoded},
          {"grad_centroids", centroids.grad()}};
}

/// `value(x)` and the gradient of x = W.
Tensors value_and_gradient(const GoldenRun& run,
                           const std::function<torch::Tensor(const torch::Tensor&)>& value) {
  const torch::Tensor w = run.input("W").clone().requires_grad_(true);
  const torch::Tensor out = value(w);
  out.backward(run.input("g"));
  return {{"out", out}, {"grad_W", w.grad()}};
}

Tensors quant_noise_paper(GoldenRun& run) {
  const std::string phi = run.text("phi");
  const torch::Tensor& w = run.input("W");
  const double p = run.has("p") ? run.number("p") : 0;
  const double keep = run.has("rescale") && run.flag("rescale") ? 1 - p : 1;
  const auto noised = [&](const torch::Tensor& quantized, const torch::Tensor& mask) {
    return value_and_gradient(
        run, [&](const torch::Tensor& x) { return with_noise(x, quantized, mask, keep); });
  };
  if (phi.starts_with("int")) {
    const IntegerCodes c = integer_codes(w.reshape({1, -1}), std::stoi(phi.substr(3)));
    Tensors out = noised(c.values().reshape_as(w), run.input("mask"));
    out.insert({{"scale", c.step}, {"zero_point", c.zero}});
    return out;
  }

  const torch::Tensor mask = entries_of_blocks(run.input("block_mask"), run.integer("block_size"));
  if (phi == "zero") return noised(torch::zeros_like(w), mask);
  if (phi != "pq") throw std::out_of_range("phi " + phi);
  return noised(decode_product(run.input("centroids"), run.input("assignments"), w.size(0)), mask);
}

Tensors quant_noise_int(GoldenRun& run) {
  const int bits = static_cast<int>(run.integer("bits"));
  const std::string method = run.text("method");
  const std::string from = run.text("scale_from");
  const torch::Tensor& w = run.input("W");
  ScaleAndZero q;
  if (from == "given") {
    q = {run.input("scale"), run.input("zero_point")};
  } else if (method == "tensor") {
    q = observer_parameters(w.min(), w.max());
  } else if (method == "histogram") {
    q = HistogramRange(w.to(torch::kFloat32)).parameters();
    q = {q.scale.to(run.dtype()), q.zero.to(run.dtype())};
  } else {
    throw std::out_of_range("method " + method);
  }
  Tensors out = value_and_gradient(run, [&](const torch::Tensor& x) {
    return int_linear_weight(x, run.input("mask"), q, bits);
  });
  out.insert({{"scale", q.scale}, {"zero_point", q.zero}});
  return out;
}

Tensors quant_noise_proxy_destructive(GoldenRun& run) {
  const double p = run.number("p");
  const std::int64_t block = run.integer("block_size");
  Tensors out;
  torch::Tensor w = run.input("W").clone();
  for (std::int64_t k = 0; k < run.input("block_mask").size(0); ++k) {
    const std::string step = "." + std::to_string(k);
    const torch::Tensor mask = entries_of_blocks(run.input("block_mask")[k], block);
    w = w.masked_fill(mask != 0, 0) * (1 / (1 - p));
    out["weight" + step] = w;
    out["out" + step] = w;
    out["grad_W" + step] = run.input("g");
  }
  out["out.eval"] = w;
  return out;
}

const std::map<std::string, GoldenOp>& ops() {
  static const std::map<std::string, GoldenOp> table = {
      {"act_quant", act_quant},
      {"asym_clip_search", asym_clip_search},
      {"dynscale", dynscale},
      {"int_asym", int_asym},
      {"int_asym_pseudo", int_asym_pseudo},
      {"int_asym_ste", int_asym_ste},
      {"ipq_kmeans", ipq_kmeans},
      {"laq", laq},
      {"lsq", lsq},
      {"nf3", nf3},
      {"pact_weight", pact_weight},
      {"quant_noise_int", quant_noise_int},
      {"quant_noise_paper", quant_noise_paper},
      {"quant_noise_proxy_destructive", quant_noise_proxy_destructive},
      {"twn", twn},
      {"twn_mx", twn_mx},
  };
  return table;
}

/// Clips count where no other candidate is as good; the least error everywhere.
void expect_same_clips(Tensors& got, const Tensors& want, bool f64) {
  const torch::Tensor margin = want.at("runner_up_margin");
  const torch::Tensor clear = margin > (f64 ? 1e-11 : 1e-5);
  const torch::Tensor nan = torch::full_like(margin, NAN);
  for (const char* clip : {"best_max", "best_min"}) {
    const torch::Tensor recorded = want.at(clip).reshape_as(margin);
    expect_close(got.at(clip), torch::where(clear, recorded, nan), 1e-6, no_slack(), true, clip);
  }
  const torch::Tensor of_weights =
      clear.unsqueeze(2).expand({-1, -1, got.at("clamped_W").size(1) / clear.size(1)});
  const torch::Tensor clamped = want.at("clamped_W");
  expect_close(
      got.at("clamped_W"),
      torch::where(of_weights.reshape_as(clamped), clamped, torch::full_like(clamped, NAN)), 1e-6,
      no_slack(), true, "clamped_W");
  expect_close(got.at("min_err"), want.at("min_err"), f64 ? 1e-12 : 1e-5, no_slack(), false,
               "min_err");
  expect_close(got.at("runner_up_margin"), margin, f64 ? 1e-10 : 5e-5, no_slack(), false,
               "runner_up_margin");
}

class GoldenQatQuantizers : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenQatQuantizers, EveryRunHasTheRecordedValuesAndGradients) {
  QUELL_NEED_DATA(folder, "golden/qat/quantizers/" + GetParam());
  check_golden_case(folder, ops(), {{"asym_clip_search", expect_same_clips}});
}

INSTANTIATE_TEST_SUITE_P(All, GoldenQatQuantizers,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/qat/quantizers")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

}  // namespace
}  // namespace quell::train
