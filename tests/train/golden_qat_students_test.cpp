// Quantized students of the golden data: that the places for quantizers are where the references
// have theirs, and that values and gradients are those of the references.
#include <gtest/gtest.h>

#include <set>

#include "quell/graph/forms.h"
#include "quell/train/fake_quantizer.h"
#include "quell/train/losses/attention_maps.h"
#include "quell/train/losses/hidden_states.h"
#include "quell/train/losses/logits.h"
#include "tests/train/golden_qat.h"

namespace quell::train::testing {
namespace {
namespace fs = std::filesystem;

TensorFunction function_of(const std::string& method,
                           const std::map<std::string, std::string>& settings) {
  const std::shared_ptr<FakeQuantizer> quantizer = make_quantizer(method, settings);
  return [quantizer](const torch::Tensor& x) { return quantizer->quantize(x); };
}

/// Ternary weights, with one step for the matrix or each of its rows.
TensorFunction ternary(const std::string& granularity, const std::string& clip) {
  return function_of("twn", {{"granularity", granularity}, {"clip", clip}});
}

/// Of a matrix that the checkpoint holds transposed, rows there.
TensorFunction ternary_by_column() {
  return [by_row = ternary("row", "none")](const torch::Tensor& w) { return by_row(w.t()).t(); };
}

/// Symmetric codes of eight bits, one step for the whole tensor.
TensorFunction eight_bits() {
  return function_of("dynamic", {{"granularity", "tensor"}, {"bits", "8"}, {"clip", "2.5"}});
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
        out.attention[{n, stage}] = eight_bits();
    const bool is_table =
        node.is(op_embedding) && graph.value(node.in[0]).input == InputKind::kTokenIds;
    if (is_table) {
      set_weight_quant(graph, node.param, {});
      out.weights[node.param] = ternary("row", "2.5");
    }
    if (!is_quantized(graph, node)) continue;

    const ValueId x = base_of(graph, node.in[kLinearInput]);
    set_input_quant(graph, x, {}, false,
                    [&](const Node& reader) { return is_quantized(graph, reader); });
    out.values[x] = eight_bits();
    set_weight_quant(graph, node.param, {});
    out.weights[node.param] = ternary("tensor", "2.5");
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
    out.fused[model.parameters().stored_weight(node.param)] = ternary_by_column();
  }
  return out;
}

/// Values of all layers, one behind the other.
torch::Tensor layers_apart(const torch::Tensor& student, const torch::Tensor& teacher) {
  return layer_mse(student.unbind(0), teacher.unbind(0));
}

torch::Tensor lengths_of(const TokenBatch& batch) {
  return torch::tensor(batch.mask).view({batch.batch, batch.length}).sum(1);
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
  const torch::Tensor predicted = compare("logits", [](const auto& student, const auto& teacher) {
    return soft_cross_entropy(student, teacher);
  });
  const torch::Tensor hidden = compare("hidden", layers_apart);
  const torch::Tensor output = compare("attn_output", layers_apart);
  const torch::Tensor maps = compare("probs", [&](const auto& student, const auto& teacher) {
    return attention_map_kl(student.unbind(0), teacher.unbind(0), lengths_of(c.batch));
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
    slot = [scale, quantize = eight_bits()](const torch::Tensor& q) {
      return quantize(q * scale) / scale;
    };
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
    return layers_apart(c.student.value(label), teacher);
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
      layers_apart(c.student.value("enc_hidden")[-1], teacher_memory),  // of each sentence
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
