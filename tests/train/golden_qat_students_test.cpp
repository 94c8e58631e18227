// Quantized students of the golden data, with quantizers written down here: that the places for
// them are where the references have theirs, and that gradients are those of the references.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "quell/graph/forms.h"
#include "tests/train/golden_qat.h"

namespace quell::train::testing {
namespace {
namespace fs = std::filesystem;

constexpr double kClip = 2.5;

/// `rounded` on the way there, x where `passes` on the way back.
torch::Tensor straight_through(const torch::Tensor& x, const torch::Tensor& rounded,
                               const torch::Tensor& passes) {
  return rounded.detach() + (x - x.detach()) * passes;
}

/// Ternary weights (TWN), with one step for what is summed over `dims`.
torch::Tensor ternary(const torch::Tensor& w, std::vector<std::int64_t> dims, double clip) {
  const torch::Tensor clipped = w.detach().clamp(-clip, clip);
  const torch::Tensor size = clipped.abs();
  const torch::Tensor large = size.gt(0.7 * size.mean(dims, true)).to(w.scalar_type());
  const torch::Tensor step = (size * large).sum(dims, true) / large.sum(dims, true).clamp_min(1.0);
  const torch::Tensor passes = w.detach().abs().lt(clip).to(w.scalar_type());
  return straight_through(w, step * torch::sign(clipped) * large, passes);
}

torch::Tensor by_tensor(const torch::Tensor& w) { return ternary(w, {0, 1}, kClip); }
torch::Tensor by_row(const torch::Tensor& w) { return ternary(w, {1}, kClip); }
/// Of a matrix that the checkpoint holds transposed, rows there.
torch::Tensor by_column(const torch::Tensor& w) { return ternary(w, {0}, 1e30); }

/// Symmetric codes of eight bits, one step for the whole tensor.
torch::Tensor eight_bits(const torch::Tensor& x) {
  const torch::Tensor clipped = x.detach().clamp(-kClip, kClip);
  const torch::Tensor codes_of_one = 127 / clipped.abs().max();
  const torch::Tensor passes = x.detach().abs().lt(kClip).to(x.scalar_type());
  return straight_through(x, torch::round(clipped * codes_of_one) / codes_of_one, passes);
}

/// Quantizers of linears in layers, and of a pooler.
bool is_quantized(const Graph& graph, const Node& node) {
  const bool is_pooler = node.param != kNoParam && graph.param(node.param).role == Role::kPooler;
  return node.is(op_linear) && (node.place.layer >= 0 || is_pooler);
}

/// Ternary weights and table, eight bits for what linears and attentions read.
FakeQuantizers two_two_eight(Graph& graph) {
  FakeQuantizers out;
  const std::vector<NodeId> order = graph.order();
  for (const NodeId n : order) {
    const Node node = graph.node(n);
    if (node.is(op_attention))
      for (const AttentionStage stage : {AttentionStage::kQuery, AttentionStage::kKey,
                                         AttentionStage::kValue, AttentionStage::kMap})
        out.attention[{n, stage}] = eight_bits;
    const bool is_table =
        node.is(op_embedding) && graph.value(node.in[0]).input == InputKind::kTokenIds;
    if (is_table) {
      set_weight_quant(graph, node.param, {});
      out.weights[node.param] = by_row;
    }
    if (!is_quantized(graph, node)) continue;

    const ValueId x = base_of(graph, node.in[kLinearInput]);
    set_input_quant(graph, x, {}, false,
                    [&](const Node& reader) { return is_quantized(graph, reader); });
    out.values[x] = eight_bits;
    set_weight_quant(graph, node.param, {});
    out.weights[node.param] = by_tensor;
  }
  return out;
}

/// Ternary weights, with a step for each row of the stored matrix.
FakeQuantizers two_bits_by_stored_row(Graph& graph, const TorchModel& model) {
  FakeQuantizers out;
  const std::vector<NodeId> order = graph.order();
  for (const NodeId n : order) {
    const Node node = graph.node(n);
    if (!is_quantized(graph, node)) continue;
    set_weight_quant(graph, node.param, {});
    out.fused[model.parameters().stored_weight(node.param)] = by_column;
  }
  return out;
}

torch::Tensor soft_cross_entropy(const torch::Tensor& student, const torch::Tensor& teacher) {
  return -(torch::softmax(teacher, -1) * torch::log_softmax(student, -1)).sum(-1).mean();
}

torch::Tensor layer_mse(const torch::Tensor& student, const torch::Tensor& teacher) {
  torch::Tensor sum = torch::zeros({}, student.scalar_type());
  for (std::int64_t l = 0; l < student.size(0); ++l)
    sum = sum + (student[l] - teacher[l]).square().mean();
  return sum;
}

/// Of attention maps, over the tokens of each sentence.
torch::Tensor map_divergence(const torch::Tensor& student, const torch::Tensor& teacher,
                             const TokenBatch& batch) {
  torch::Tensor sum = torch::zeros({}, student.scalar_type());
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    const auto begin = batch.mask.begin() + b * batch.length;
    const std::int64_t length = std::count(begin, begin + batch.length, 1);
    const auto valid = [&](const torch::Tensor& maps) {
      return maps.select(1, b).narrow(-2, 0, length).narrow(-1, 0, length).clamp_min(1e-8);
    };
    const torch::Tensor p = valid(teacher);
    const torch::Tensor terms = p * (torch::log(p) - torch::log(valid(student)));
    sum = sum + terms.sum() / static_cast<double>(length);
  }
  return sum / static_cast<double>(batch.batch * student.size(2));
}

class GoldenQatStudents : public ::testing::TestWithParam<std::string> {
 protected:
  struct Case {
    explicit Case(const fs::path& dir)
        : model(load_model(Checkpoint::open(dir / "model"))),
          teacher_model(load_model(Checkpoint::open(dir / "model"))),
          inputs(dir / "inputs.safetensors"),
          expected(dir / "expected.safetensors"),
          batch(read_batch(inputs, "batch0.")),
          student(model, batch, torch::kFloat64),
          teacher(teacher_model, batch, torch::kFloat64) {}

    Model model;  ///< the student's, which gets quantizers
    Model teacher_model;
    SafetensorsFile inputs;
    SafetensorsFile expected;
    TokenBatch batch;
    Recorded student;
    Recorded teacher;
  };

  static void check_bert_of_kdqat(Case& c);
  static void check_gpt2_of_tsld(Case& c);
  static void check_bart_of_dqbart(Case& c);

  static void expect_forward(const Case& c, const std::string& prefix,
                             const std::vector<std::string>& labels) {
    const torch::NoGradGuard guard;
    for (const std::string& label : labels) {
      const torch::Tensor want = recorded(c.expected, prefix + label);
      const torch::Tensor got = c.student.value(label).reshape(want.sizes());
      const torch::Tensor off = (got - want).abs() / (1 + want.abs());
      const torch::Tensor worst = off.masked_select(counted(label, want, c.batch)).max();
      EXPECT_LE(worst.item<double>(), 1e-10) << label;
    }
  }

  /// Matrices that a checkpoint holds transposed are compared so. `tolerance`: some gradients are
  /// recorded rounded to f32.
  static void expect_gradients(Case& c, const std::string& prefix, double tolerance) {
    int compared = 0;
    for (const TorchParameter& p : c.student.interpreter().parameters().trained()) {
      const torch::Tensor want = recorded(c.expected, prefix + p.name).to(torch::kFloat64);
      ASSERT_TRUE(p.tensor.grad().defined()) << p.name;
      const bool transposed = is_transposed(c.model, p.name);
      const torch::Tensor got = transposed ? p.tensor.grad().t() : p.tensor.grad();
      ASSERT_EQ(got.sizes(), want.sizes()) << p.name;
      const torch::Tensor off = (got - want).abs() / (1 + want.abs());
      EXPECT_LE(off.max().item<double>(), tolerance) << p.name;
      ++compared;
    }
    EXPECT_GT(compared, 10);
  }

  static bool is_transposed(const Model& model, const std::string& weight) {
    for (const Param& p : model.params)
      if (p.weight_name == weight) return p.packing.transposed;
    return false;
  }
};

void GoldenQatStudents::check_bert_of_kdqat(Case& c) {
  c.student.interpreter().set_quantizers(two_two_eight(c.model.graph));
  expect_forward(c, "forward.f64.student.",
                 {"logits", "scores", "probs", "hidden", "context", "attn_output", "sa_output"});

  const auto compare = [&](const char* label, auto loss) {
    const torch::NoGradGuard guard;
    const torch::Tensor teacher = c.teacher.value(label);
    const torch::AutoGradMode differentiable(true);
    return loss(c.student.value(label), teacher);
  };
  const torch::Tensor predicted = compare("logits", soft_cross_entropy);
  const torch::Tensor hidden = compare("hidden", layer_mse);
  const torch::Tensor output = compare("attn_output", layer_mse);
  const torch::Tensor maps = compare("probs", [&](const auto& student, const auto& teacher) {
    return map_divergence(student, teacher, c.batch);
  });
  const torch::Tensor total = predicted + hidden + maps + 0.5 * output;
  const torch::Tensor want = recorded(c.expected, "train.map_output.f64.losses")[0];
  EXPECT_NEAR(total.item<double>(), want[-1].item<double>(), 1e-10);

  total.backward();
  expect_gradients(c, "train.map_output.f64.grad.", 1e-9);
}

void GoldenQatStudents::check_gpt2_of_tsld(Case& c) {
  c.student.interpreter().set_quantizers(
      two_bits_by_stored_row(c.model.graph, c.student.interpreter()));
  expect_forward(c, "forward.student.f64.", {"logits", "hidden", "probs"});

  torch::Tensor teacher;
  {
    const torch::NoGradGuard guard;
    teacher = c.teacher.value("logits");
  }
  // Every position but the last predicts a token.
  const auto predicting = [&](const torch::Tensor& logits) {
    return logits.view({c.batch.batch, c.batch.length, -1}).narrow(1, 0, c.batch.length - 1);
  };
  const torch::Tensor loss =
      soft_cross_entropy(predicting(c.student.value("logits")), predicting(teacher));
  const torch::Tensor want = recorded(c.expected, "train.logit.f64.losses")[0];
  EXPECT_NEAR(loss.item<double>(), want[0].item<double>(), 1e-10);

  loss.backward();
  expect_gradients(c, "train.logit.f64.grad.", 1e-6);
}

void GoldenQatStudents::check_bart_of_dqbart(Case& c) {
  FakeQuantizers quantizers = two_two_eight(c.model.graph);
  for (auto& [point, slot] : quantizers.attention) {
    if (point.stage != AttentionStage::kQuery) continue;
    // The reference multiplies by the scale first, and so clips elsewhere.
    const auto& attention = c.model.graph.node(point.node).attributes.get<AttentionAttributes>();
    const double scale = attention.recipe.scale.f64();
    slot = [scale](const torch::Tensor& q) { return eight_bits(q * scale) / scale; };
  }
  c.student.interpreter().set_quantizers(std::move(quantizers));
  expect_forward(c, "forward.student.f64.",
                 {"logits", "enc_hidden", "dec_hidden", "enc_attn", "dec_attn", "cross_attn"});

  const auto apart = [&](const char* label) {
    torch::Tensor teacher;
    {
      const torch::NoGradGuard guard;
      teacher = c.teacher.value(label);
    }
    return layer_mse(c.student.value(label), teacher);
  };
  torch::Tensor teacher_logits;
  torch::Tensor teacher_memory;
  {
    const torch::NoGradGuard guard;
    teacher_logits = c.teacher.value("logits");
    teacher_memory = c.teacher.value("enc_hidden")[-1];
  }
  const torch::Tensor logits = c.student.value("logits");
  const torch::Tensor labels =
      torch::tensor(to_i32(c.inputs.at("batch0.labels"), "labels")).to(torch::kInt64);
  const std::vector<torch::Tensor> terms = {
      torch::cross_entropy_loss(logits, labels),
      (logits - teacher_logits).square().mean(),
      apart("enc_attn"),
      apart("dec_attn"),
      apart("cross_attn"),
      apart("enc_hidden"),
      layer_mse(c.student.value("enc_hidden")[-1], teacher_memory),  // of each sentence
      apart("dec_hidden")};
  const torch::Tensor total = torch::stack(terms).sum();
  const torch::Tensor want = recorded(c.expected, "losses.f64.losses").view(-1);
  for (std::size_t i = 0; i < terms.size(); ++i)
    EXPECT_NEAR(terms[i].item<double>(), want[static_cast<std::int64_t>(i)].item<double>(), 1e-10)
        << i;
  EXPECT_NEAR(total.item<double>(), want[-1].item<double>(), 1e-10);

  total.backward();
  expect_gradients(c, "losses.f64.grad.", 1e-9);
}

TEST_P(GoldenQatStudents, FollowTheirReferences) {
  QUELL_NEED_DATA(dir, "golden/qat/models/" + GetParam());
  const Json description = read_json_file(dir / "case.json");
  std::set<std::string> ops;
  for (const Json& run : description.at("runs")) ops.insert(run.at("op"));

  Case c(dir);
  if (ops.contains("kdqat_train"))
    check_bert_of_kdqat(c);
  else if (ops.contains("dqbart_losses"))
    check_bart_of_dqbart(c);
  else if (ops.contains("gpt2_forward") && ops.contains("tsld_train"))
    check_gpt2_of_tsld(c);
  else
    GTEST_SKIP() << "quantizers of " << *ops.begin() << " are not written down here";
}

INSTANTIATE_TEST_SUITE_P(All, GoldenQatStudents,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/qat/models")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

}  // namespace
}  // namespace quell::train::testing
