// The gradients by hand against differences of the loss, with quantizers so fine that only what
// they clip counts.
#include "quell/compress/backward.h"
#include "quell/graph/forms.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/compress/compress.h"
#include "quell/compress/recipe.h"
#include "quell/compress/token_clipping.h"
#include "quell/quant/quantize.h"
#include "tests/support/golden_numbers.h"
#include "tests/support/support.h"

namespace quell {
namespace {

constexpr int kBits = 22;

/// Half the range in many steps: something is clipped, and rounding is nothing beside it.
void clip(ActivationQuant& q) {
  const float codes =
      static_cast<float>((1 << kBits) - 1) / static_cast<float>((1 << q.spec.num_bits) - 1);
  q.spec.num_bits = kBits;
  q.qparams.scale *= 0.5F / codes;
  q.qparams.zero_point =
      static_cast<std::int32_t>(static_cast<float>(q.qparams.zero_point) * codes);
}

/// Sum of outputs times fixed numbers in [-1, 1].
Tensor weights_like(const Shape& shape) {
  return quell::testing::GoldenNumbers(7).make(shape, -1, 1);
}

class BackwardOf : public ::testing::TestWithParam<const char*> {
 protected:
  void load(const std::filesystem::path& dir) {
    model = load_model(Checkpoint::open(dir));
    Recipe recipe = load_recipe("minmax");
    recipe.quantize_attention = true;
    std::vector<TokenSequence> sequences(3);
    for (std::size_t i = 0; i < sequences.size(); ++i)
      for (std::size_t j = 0; j < 5 + 2 * i; ++j)
        sequences[i].ids.push_back(static_cast<std::int32_t>(3 + (7 * i + 5 * j) % 20));
    batches = make_batches(sequences, sequences.size(), model.spec.pad_token_id);
    compress(model, batches, recipe, ctx);
    for (Param& p : model.params)
      if (p.quantized) p.weight = dequantize(*p.quantized);
    now = quantizers_of(model);
    for (auto& [value, q] : now.inputs) clip(q), quants.push_back(&q);
    for (auto& [node, quant] : now.attention)
      for (auto* q : quant.points())
        if (*q) clip(**q), quants.push_back(&**q);
    for (const auto& [name, value] : model.graph.outputs)
      if (name == "logits") output = value;
    ASSERT_GE(output, 0);
  }
  std::unique_ptr<Executor> run() {
    for (const auto& [node, quant] : now.attention) set_attention_quant(model.graph, node, quant);
    for (const auto& [value, quant] : now.inputs)
      model.graph.set_attributes(quantize_node(model.graph, value), Attributes::of(quant));
    ops = make_simulated_ops(model, false, ctx.isa, Rounding::kDivide);
    auto executor = std::make_unique<Executor>(model, ops, Rounding::kDivide, batches.front(), ctx);
    executor->keep_values = true;
    executor->run_until();
    return executor;
  }
  double loss() {
    const Tensor out = run()->seen(output), weights = weights_like(out.shape());
    double sum = 0;
    for (std::size_t i = 0; i < out.f32().size(); ++i)
      sum += static_cast<double>(out.f32()[i]) * static_cast<double>(weights.f32()[i]);
    return sum;
  }

  ExecContext ctx{2};
  Model model;
  std::vector<TokenBatch> batches;
  std::vector<ActivationQuant*> quants;
  ActivationQuantizers now;  ///< of the model, to be changed
  OpTable ops;
  ValueId output = -1;
};

TEST_P(BackwardOf, StepsFollowDifferencesOfTheLoss) {
  QUELL_NEED_DATA(dir, std::string("golden/models/") + GetParam());
  load(dir);
  const auto executor = run();
  const Backward::Weights none;
  Backward backward(model, none, *executor, ctx);
  backward.seed(output, weights_like(executor->value(output).shape()));
  backward.run();
  std::map<const ActivationQuant*, double> found;
  // By relative change of the step; the batch's padding is quantized too, so that factors are those
  // of whole tensors.
  for (const auto& [value, g] : backward.at_values) {
    const ActivationQuant& q = now.inputs.at(value);
    found[&q] = g.scale / step_gradient_factor(executor->value(value).numel(), q.spec) *
                static_cast<double>(q.qparams.scale);
  }
  for (const auto& [at, g] : backward.at_points) {
    AttentionQuant& attention = now.attention.at(at.first);
    const Node& node = model.graph.node(at.first);
    const AttentionCall call = executor->attention_call(node);
    std::int64_t numel = 0;
    if (at.second < 3) {
      numel = executor->value(node.in[static_cast<std::size_t>(at.second)]).numel();
    } else {
      const AttentionShape shape = call.shape();
      for (const SequenceSpan& s : shape.sequences)
        numel += shape.num_heads * s.q_count * s.k_count;
    }
    const ActivationQuant& q = **attention.points()[static_cast<std::size_t>(at.second)];
    found[&q] =
        g.scale / step_gradient_factor(numel, q.spec) * static_cast<double>(q.qparams.scale);
  }
  double largest = 0;
  for (const auto& [q, g] : found) largest = std::max(largest, std::fabs(g));
  ASSERT_GT(largest, 0);
  const double here = loss();
  for (std::size_t i = 0; i < quants.size(); ++i) {
    ActivationQuant& q = *quants[i];  // none is found where no linear reads: the last norm of
                                      // layers that share weights
    const float scale = q.qparams.scale;
    constexpr float kStep = 1e-3F;
    q.qparams.scale = scale * (1 + kStep);
    const double right = (loss() - here) / static_cast<double>(kStep);
    q.qparams.scale = scale * (1 - kStep);
    const double left = (here - loss()) / static_cast<double>(kStep);
    q.qparams.scale = scale;
    // Where elements start or end to be clipped within the step, the sides have different slopes
    // and the gradient lies between.
    const double want = std::clamp(found[&q], std::min(left, right), std::max(left, right));
    EXPECT_NEAR(found[&q], want, 0.02 * std::fabs(want) + 0.005 * largest) << "quantizer " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, BackwardOf,
                         ::testing::Values("bert-cls", "roberta-cls", "distilbert-cls",
                                           "albert-cls", "gpt2", "opt", "bloom", "llama", "qwen2",
                                           "qwen3", "mistral", "phi", "gpt-neox", "gpt-neo", "t5",
                                           "bart"));

/// One batch, so that the losses in front of the steps can be compared.
class FineStageOf : public ::testing::TestWithParam<std::pair<const char*, ClippingLoss>> {};

TEST_P(FineStageOf, LowersTheLoss) {
  QUELL_NEED_DATA(dir, std::string("golden/models/") + GetParam().first);
  ExecContext ctx{2};
  Model model = load_model(Checkpoint::open(dir));
  Recipe recipe = load_recipe("minmax");
  recipe.weights.num_bits = 8;
  recipe.activations.num_bits = 4;
  recipe.quantize_attention = true;
  std::vector<TokenSequence> sequences(2);
  for (std::size_t i = 0; i < sequences.size(); ++i)
    for (std::size_t j = 0; j < 12; ++j)
      sequences[i].ids.push_back(static_cast<std::int32_t>(3 + (7 * i + 5 * j) % 20));
  const auto batches = make_batches(sequences, sequences.size(), model.spec.pad_token_id);
  compress(model, batches, recipe, ctx);
  TokenClippingOptions options;
  options.percentile = 1;
  options.loss = GetParam().second;
  options.epochs = 40;
  options.learning_rate = 3e-3;
  const TokenClippingResult result = search_token_clipping(model, batches, options, ctx);
  ASSERT_EQ(result.step_losses.size(), 40U);
  EXPECT_NEAR(result.step_losses.front(), result.coarse_loss, 1e-6 * result.coarse_loss);
  EXPECT_LT(result.fine_loss, 0.98 * result.coarse_loss);
}

INSTANTIATE_TEST_SUITE_P(All, FineStageOf,
                         ::testing::Values(std::pair("llama", ClippingLoss::kCrossEntropy),
                                           std::pair("opt", ClippingLoss::kAuto),
                                           std::pair("llama", ClippingLoss::kOutputs)));

/// Of sentence embeddings: differences of a sum, too.
class EmbedBackward : public ::testing::TestWithParam<int> {
 protected:
  static SentencePipeline pipeline(int which) {
    const auto dense = [](std::int64_t in, std::int64_t out, const char* activation,
                          bool adds_input) {
      DenseModule d;
      d.weight = weights_like({out, in});
      d.bias = weights_like({1, out});
      d.bias.reshape({out});
      d.activation = activation;
      d.adds_input = adds_input;
      if (adds_input && in != out) d.projection = weights_like({out, in});
      return d;
    };
    SentencePipeline p;
    PoolingModule pooling;
    if (which < 6) pooling.modes = {static_cast<PoolingMode>(which)};
    if (which == 6)
      pooling.modes = {PoolingMode::kCls, PoolingMode::kMax, PoolingMode::kWeightedMean};
    if (which > 6) pooling.modes = {PoolingMode::kMean};
    pooling.include_prompt = which != 6;
    if (which == 7) {
      DenseModule tokens = dense(5, 4, "GELU", false);
      tokens.in = tokens.out = SentenceValue::kTokens;
      p.modules.push_back(std::move(tokens));
    }
    p.modules.push_back(std::move(pooling));
    if (which == 8) p.modules.push_back(dense(5, 5, "Tanh", true));
    if (which == 9) p.modules.push_back(dense(5, 3, "Identity", true));
    if (which == 10) {
      LayerNormModule norm{weights_like({1, 5}), weights_like({1, 5})};
      norm.weight.reshape({5});
      norm.bias.reshape({5});
      p.modules.push_back(std::move(norm));
      p.truncate_dim = 3;
    }
    if (which % 2 == 1 || which == 0) p.modules.push_back(NormalizeModule{});
    return p;
  }
};

TEST_P(EmbedBackward, FollowsDifferences) {
  TokenBatch batch;
  batch.batch = 2;
  batch.length = 3;
  batch.ids = std::vector<std::int32_t>(6, 1);
  batch.mask = {1, 1, 1, 1, 1, 0};
  batch.type_ids = std::vector<std::int32_t>(6, 0);
  batch.prompt_lengths = {1, 1};
  const SentencePipeline p = pipeline(GetParam());
  ExecContext ctx(1);
  Tensor hidden = weights_like({6, 5});
  const Tensor weights = weights_like({2, p.dimension(5)});
  const auto sum = [&] {
    const Tensor y = embed(p, hidden, batch, ctx);
    double out = 0;
    for (std::size_t i = 0; i < y.f32().size(); ++i)
      out += static_cast<double>(y.f32()[i]) * static_cast<double>(weights.f32()[i]);
    return out;
  };
  const Tensor found = embed_backward(p, hidden, batch, weights, ctx);
  double largest = 0;
  for (std::size_t i = 0; i < hidden.f32().size(); ++i) {
    const float v = hidden.f32()[i];
    hidden.f32()[i] = v + 5e-3F;
    const double above = sum();
    hidden.f32()[i] = v - 5e-3F;
    const double below = sum();
    hidden.f32()[i] = v;
    EXPECT_NEAR(static_cast<double>(found.f32()[i]), (above - below) / 1e-2, 5e-3)
        << "element " << i;
    largest = std::max(largest, std::fabs((above - below) / 1e-2));
  }
  EXPECT_GT(largest, 0.05);
}

INSTANTIATE_TEST_SUITE_P(Modules, EmbedBackward, ::testing::Range(0, 11));

}  // namespace
}  // namespace quell
