// Training runs of the golden data of quantization-aware training, whole: quantizers in the
// interpreter's places, losses, gradients, clipping, optimizer and schedule, step by step against
// what the reference code recorded.
#include <gtest/gtest.h>

#include "quell/graph/forms.h"
#include "quell/train/clip_search.h"
#include "quell/train/fake_quantizer.h"
#include "quell/train/losses/logits.h"
#include "quell/train/objective.h"
#include "quell/train/optimizers/optimizer.h"
#include "quell/train/optimizers/schedule.h"
#include "tests/train/golden_qat.h"
#include "tests/train/golden_slots.h"

namespace quell::train::testing {
namespace {
namespace fs = std::filesystem;

using Terms = std::map<std::string, torch::Tensor>;  ///< of a loss, by the name of their column

/// The references' positions count on over padding, of which some losses take account.
Model load_as_reference(const fs::path& dir) {
  Model model = load_model(Checkpoint::open(dir));
  for (const NodeId n : model.graph.order()) {
    if (!model.graph.node(n).is(op_position_ids)) continue;
    auto positions = model.graph.node(n).attributes.get<PositionAttributes>();
    if (positions.rule == PositionRule::kMaskCount) positions.rule = PositionRule::kIndex;
    model.graph.set_attributes(n, Attributes::of(positions));
  }
  return model;
}

/// One run: a teacher, a student that starts as its copy, and what trains it.
class TrainingRun {
 public:
  TrainingRun(const fs::path& dir, const Json& run)
      : json_(run),
        settings_(run.at("settings")),
        dtype_(run.at("dtype") == "float64" ? torch::kFloat64 : torch::kFloat32),
        inputs_(dir / "inputs.safetensors"),
        expected_(dir / "expected.safetensors"),
        student_model_(load_as_reference(dir / "model")),
        teacher_model_(load_as_reference(dir / "model")),
        batch_(read_batch(inputs_, "batch0.")),
        student_(student_model_, batch_, dtype_),
        teacher_(teacher_model_, batch_, dtype_) {
    for (const TorchParameter& p : student_.interpreter().parameters().trained())
      trained_.push_back({p.name, p.tensor});
  }

  /// Steps from the first to the last, each against what was recorded of it.
  void check() {
    prepare();
    choose_terms();
    const auto steps = settings_.at("steps").get<std::int64_t>();
    const torch::Tensor want = expect("losses");
    const bool is_double = dtype_ == torch::kFloat64;
    const double drift =
        is_double
            ? 0.0
            : json_.at("checks").at("float32_vs_float64").at("total_loss_max_abs").get<double>();

    for (std::int64_t step = 0; step < steps; ++step) {
      batch_ = read_batch(inputs_, prefix(step));
      const Terms terms = losses(step);
      const std::vector<std::string> columns = settings_.at("loss_columns");
      for (std::size_t i = 0; i < columns.size(); ++i) {
        ASSERT_TRUE(terms.contains(columns[i])) << "\"" << columns[i] << "\" is not known";
        const double recorded = want[step][static_cast<std::int64_t>(i)].item<double>();
        // In f32 codes flip, for the reference too: the curve stays as close as its own do.
        double tolerance = is_double ? 1e-10 : 3 * drift + 1e-4;
        if (is_double && parted_) tolerance = 0.02;
        if (!is_double && step == 0) tolerance = 1e-5;
        const double allowed = tolerance * (1 + std::fabs(recorded));
        ASSERT_NEAR(terms.at(columns[i]).item<double>(), recorded, allowed)
            << columns[i] << ", step " << step;
      }
      optimizer_->zero_gradients();
      terms.at(columns_total(columns)).backward();
      if (step == 0 && is_double) expect_parameters("grad", 1e-9, true);
      clip_gradients(optimizer_->parameters(), clip_, 1);
      optimizer_->step(settings_.at(rate_key_).get<double>() *
                       schedule_.factor(step, total_steps()));
      if (!is_double || parted_) continue;
      expect_parameters("after" + std::to_string(step + 1), 1e-8, false);
      expect_sums(std::to_string(step + 1));
    }
  }

 private:
  static std::string prefix(std::int64_t step) { return "batch" + std::to_string(step % 5) + "."; }
  static std::string columns_total(const std::vector<std::string>& columns) {
    return columns.front() == "optimised_loss" ? columns.front() : columns.back();
  }
  std::int64_t total_steps() const {
    return settings_.value("t_total", settings_.at("steps").get<std::int64_t>());
  }
  torch::Tensor expect(const std::string& label) const {
    return recorded(expected_, json_.at("outputs").at(label));
  }
  bool flag(const std::string& key) const {
    if (!settings_.contains(key)) return false;
    const Json& value = settings_.at(key);
    return value.is_boolean() ? value.get<bool>() : value.get<int>() != 0;
  }

  // What trains.

  void prepare() {
    const std::string op = json_.at("op");
    AdamOptions adam;
    if (op == "kdqat_train") {
      two_bits_and_eight();
      for (TrainedParameter& p : trained_) {
        const bool decays =
            !p.name.ends_with("bias") && p.name.find("LayerNorm") == std::string::npos;
        p.weight_decay = decays ? 0.01 : 0;
      }
      rate_key_ = "learning_rate";
      schedule_ = {Decay::kLinear, settings_.at("warmup").get<double>()};
      adam.epsilon = 1e-6;
      clip_ = ClipNorm::kEachTensor;
      optimizer_ = std::make_unique<BertAdam>(trained_, adam);
      return;
    }
    if (op == "tsld_train") {
      weights_of_tsld();
      schedule_ = {Decay::kLinear, 0};
    } else {
      ASSERT_EQ(op, "bitdistiller_train") << "an op that this test does not know";
      groups_of_bitdistiller();
      schedule_ = {Decay::kConstant, 0};
    }
    optimizer_ = std::make_unique<AdamW>(trained_, adam);
  }

  TensorFunction slot(const std::string& method, const Settings& settings) {
    quantizers_.push_back(make_quantizer(method, settings));
    FakeQuantizer* quantizer = quantizers_.back().get();
    if (method != "dynamic")
      return [quantizer](const torch::Tensor& x) { return quantizer->quantize(x); };
    return [this, quantizer](const torch::Tensor& x) {
      note_ties(x);
      return quantizer->quantize(x);
    };
  }

  /// Values of which the largest is twice another lie exactly between two codes, and the last bit
  /// of a sum decides, which is the BLAS library's: from there on the curves may part.
  void note_ties(const torch::Tensor& x) {
    const torch::NoGradGuard guard;
    const double clip = settings_.at("clip_val");
    const torch::Tensor clipped = x.clamp(-clip, clip);
    const torch::Tensor codes = clipped * (127 / clipped.abs().max());
    const double nearest = (codes.abs().frac() - 0.5).abs().min().item<double>();
    parted_ |= nearest < 1e-10;
  }

  void two_bits_and_eight() {
    const TwoTwoEight options{.clip = settings_.at("clip_val").dump(),
                              .bits = settings_.at("input_bits").dump(),
                              .linear_inputs = flag("act_quant")};
    const auto make = [this](const std::string& method, const Settings& settings) {
      return slot(method, settings);
    };
    student_.interpreter().set_quantizers(two_two_eight(student_model_.graph, make, options));
  }

  void quantize_stored_weights(const std::function<TensorFunction(const std::string&)>& make) {
    TorchModel& model = student_.interpreter();
    model.set_quantizers(slots_of_stored_weights(student_model_.graph, model, make));
  }

  void weights_of_tsld() {
    const bool learned = flag("learned_scale");
    const std::string granularity = flag("per_tensor") ? "tensor" : "row";
    const std::string bits = settings_.at("n_bits_w").dump();
    quantize_stored_weights([&](const std::string& name) -> TensorFunction {
      Settings settings = {{"granularity", granularity}};
      if (learned) settings.insert({{"bits", bits}, {"detach_mean", "false"}, {"start", "1"}});
      std::string method = bits == "2" ? "twn" : "min_max";
      if (learned) method = "dynscale";
      if (method == "min_max") settings["bits"] = bits;
      const TensorFunction function = slot(method, settings);
      if (learned) {
        quantizers_.back()->initialize(student_.interpreter().parameters().at(name));
        const std::string module = name.substr(0, name.rfind('.'));
        trained_.push_back({module + ".scale", quantizers_.back()->parameters().at(0).value});
      }
      // Rows are those of the matrix as it is stored.
      return is_transposed(student_model_, name) ? as_stored(function) : function;
    });
  }

  void groups_of_bitdistiller() {
    const std::string type = settings_.at("quant_type");
    Settings settings = {{"granularity", "group"},
                         {"group_size", settings_.at("group_size").dump()}};
    const bool is_nf3 = type != "int2-asym";
    if (is_nf3) {
      ASSERT_EQ(type, "ste-n2f3");
    }
    if (!is_nf3) settings["bits"] = "2";
    if (flag("clip")) clip_weights(is_nf3);
    quantize_stored_weights(
        [&](const std::string&) { return slot(is_nf3 ? "nf3" : "int_asym", settings); });
  }

  /// Clips searched by the outputs of the float model, on all weights but those of queries and
  /// keys.
  void clip_weights(bool is_nf3) {
    const torch::NoGradGuard guard;
    ClipSearch search;
    search.group_size = settings_.at("group_size").get<std::int64_t>();
    const std::unique_ptr<FakeQuantizer> quantizer =
        is_nf3 ? make_quantizer("nf3", {{"granularity", "row"}})
               : make_quantizer("int_asym",
                                {{"granularity", "row"}, {"bits", "2"}, {"rounding", "half_even"}});
    const TokenBatch calibration = read_batch(inputs_, "calib.");
    const Graph& graph = teacher_model_.graph;
    Taps taps;
    for (const NodeId n : graph.order())
      if (takes_few_bits(graph, graph.node(n)))
        taps.values.push_back(base_of(graph, graph.node(n).in[kLinearInput]));
    const TorchOutputs seen = teacher_.interpreter().forward(calibration, taps);

    for (const NodeId n : graph.order()) {
      const Node& node = graph.node(n);
      if (!takes_few_bits(graph, node)) continue;
      const std::string& name = teacher_.interpreter().parameters().stored_weight(node.param);
      if (name.find("q_proj") != std::string::npos || name.find("k_proj") != std::string::npos)
        continue;
      const torch::Tensor x = seen.taps.at(base_of(graph, node.in[kLinearInput]));
      const torch::Tensor& weight = student_.interpreter().parameters().at(name);
      const Clips clips = search_clips(weight, x, search, [&](const torch::Tensor& groups) {
        return quantizer->quantize(groups);
      });
      const_cast<torch::Tensor&>(weight).copy_(clamp_to(weight, clips));
      const std::string label = "initial." + name;
      if (!json_.at("outputs").contains(label)) continue;
      EXPECT_LE((weight - expect(label)).abs().max().item<double>(), 1e-12) << label;
    }
  }

  // What it is trained by.

  /// `column`: what the recorded run calls the loss.
  void add_term(const std::string& column, const std::string& term, Settings settings = {},
                double weight = 1) {
    choices_.push_back({MethodParams(term, std::move(settings), "term"), weight});
    const int use = ++uses_[term];
    name_of_column_[column] = use > 1 ? term + "." + std::to_string(use) : term;
  }

  void choose_terms() {
    const bool of_classes = json_.at("op") == "kdqat_train";
    if (of_classes)
      choose_terms_of_kdqat();
    else
      choose_terms_of_tsld();
    if (choices_.empty()) return;

    const Graph& graph = student_model_.graph;
    layers_ = make_layer_map(graph, teacher_model_.graph, "");
    task_ = of_classes ? TaskKind::kClasses : TaskKind::kCausalLm;
    const TermSetting setting{student_.interpreter(), &teacher_.interpreter(), layers_, task_};
    objective_.emplace(choices_, setting);
  }

  void choose_terms_of_kdqat() {
    if (flag("gt_loss")) add_term("gt", "labels", {{"reduction", "sum"}});
    if (flag("attnmap_distill"))
      add_term("map", "attention_maps", {}, settings_.at("map_coeff").get<double>());
    if (flag("attn_distill")) add_term("score", "attention_scores");
    if (flag("rep_distill")) add_term("rep", "hidden_states");
    if (flag("pred_distill")) add_term("pred", "logits");
    if (flag("output_distill"))
      add_term("output", "attention_outputs", {}, settings_.at("output_coeff").get<double>());
    if (flag("sa_output_distill"))
      add_term("sa_output", "attention_outputs", {{"point", "projection"}});
    if (flag("context_distill")) add_term("context", "attention_outputs", {{"point", "context"}});
  }

  void choose_terms_of_tsld() {
    if (flag("kd_gt")) add_term("gt_loss", "labels");
    if (flag("kd_pred")) add_term("pred_loss", "logits");
    if (flag("kd_tsld"))
      add_term("tsld_loss", "token_scaled",
               {{"tau", settings_.at("kd_tsld_temp").dump()}, {"padding", "counted"}});
    if (!flag("kd_l2l")) return;
    add_term("rep_loss", "hidden_states");
    add_term("attn_loss", "attention_scores", {{"kind", "causal_map"}});
  }

  torch::Tensor labels(std::int64_t step) const {
    const std::string name = prefix(step) + "labels";
    const std::vector<std::int32_t> ids =
        inputs_.has(name) ? to_i32(inputs_.at(name), "labels") : batch_.ids;
    return torch::tensor(ids).to(torch::kInt64);
  }

  Terms losses(std::int64_t step) {
    if (!objective_) return losses_of_bitdistiller(step);

    TrainingBatch batch;
    batch.kind = task_;
    batch.tokens = batch_;
    batch.labels = labels(step);
    if (task_ == TaskKind::kCausalLm)
      batch.labels = batch.labels.view({batch_.batch, batch_.length});
    const TorchOutputs student = student_.interpreter().forward(batch_, objective_->student_taps());
    const TorchOutputs teacher = of_teacher(objective_->teacher_taps());

    const Terms values = objective_->values({batch, student, teacher});
    Terms terms;
    for (const auto& [column, name] : name_of_column_) terms[column] = values.at(name);
    terms["total"] = terms["optimised_loss"] = values.at("loss");
    return terms;
  }

  TorchOutputs of_teacher(const Taps& taps) {
    const torch::NoGradGuard guard;
    return teacher_.interpreter().forward(batch_, taps);
  }

  /// Of every position, and not of the next token: no term.
  Terms losses_of_bitdistiller(std::int64_t step) {
    const auto by_sentence = [&](const TorchOutputs& outputs) {
      return outputs.values.at("logits").view({batch_.batch, batch_.length, -1});
    };
    const torch::Tensor ids = labels(step).view({batch_.batch, batch_.length});
    Terms terms;
    terms["kd"] = loss_of_bitdistiller(by_sentence(student_.interpreter().forward(batch_)),
                                       by_sentence(of_teacher({})), ids);
    terms["optimised_loss"] = terms["kd"];
    return terms;
  }

  torch::Tensor loss_of_bitdistiller(const torch::Tensor& student, const torch::Tensor& teacher,
                                     const torch::Tensor& ids) const {
    const std::string loss = settings_.at("loss");
    if (loss == "cakld") return confidence_aware_kl(student, teacher, ids, settings_.at("beta"));
    const bool is_forward = loss == "forward";
    EXPECT_TRUE(is_forward || loss == "reverse") << loss;
    return sum_of_answers(
        is_forward ? forward_kls(student, teacher) : reverse_kls(student, teacher), ids);
  }

  // What it has become.

  /// The key part of a fused bias has no gradient but rounding, of which Adam makes whole steps.
  static torch::Tensor without_keys(const std::string& name, torch::Tensor x) {
    if (!name.ends_with("c_attn.bias")) return x;
    const std::int64_t third = x.size(0) / 3;
    x = x.clone();
    x.narrow(0, third, third).zero_();
    return x;
  }

  void expect_parameters(const std::string& kind, double tolerance, bool gradients) const {
    int compared = 0;
    for (const TrainedParameter& p : optimizer_->parameters()) {
      const std::string label = kind + "." + p.name;
      if (!json_.at("outputs").contains(label)) continue;
      const torch::Tensor want = expect(label);
      const bool is_rounded = want.scalar_type() == torch::kFloat32;
      torch::Tensor got = gradients ? p.value.grad() : p.value.detach();
      ASSERT_TRUE(got.defined()) << label;
      if (is_transposed(student_model_, p.name)) got = got.t();
      ASSERT_EQ(got.numel(), want.numel()) << label;
      const torch::Tensor off = without_keys(p.name, got.reshape(want.sizes())) -
                                without_keys(p.name, want.to(torch::kFloat64));
      const torch::Tensor relative = off.abs() / (1 + want.abs());
      EXPECT_LE(relative.max().item<double>(), is_rounded ? 1e-6 : tolerance) << label;
      ++compared;
    }
    if (gradients) {
      EXPECT_GT(compared, 10);
    }
  }

  /// Of runs that keep no parameters.
  void expect_sums(const std::string& steps) const {
    if (!json_.contains("param_sum_and_l2norm")) return;
    const Json& all = json_.at("param_sum_and_l2norm");
    if (!all.contains(steps)) return;
    for (const TrainedParameter& p : optimizer_->parameters()) {
      if (p.name.ends_with("c_attn.bias")) continue;
      const std::vector<double> want = all.at(steps).at(p.name);
      const torch::Tensor value = p.value.detach();
      EXPECT_NEAR(value.sum().item<double>(), want[0], 1e-7 * (1 + std::fabs(want[0]))) << p.name;
      EXPECT_NEAR(value.norm().item<double>(), want[1], 1e-8 * (1 + want[1])) << p.name;
    }
  }

  const Json& json_;
  const Json& settings_;
  torch::ScalarType dtype_;
  SafetensorsFile inputs_;
  SafetensorsFile expected_;
  Model student_model_;
  Model teacher_model_;
  TokenBatch batch_;  ///< of the step; both models read it
  Recorded student_;
  Recorded teacher_;
  std::vector<TrainedParameter> trained_;
  std::vector<std::unique_ptr<FakeQuantizer>> quantizers_;
  std::vector<TermChoice> choices_;
  std::map<std::string, int> uses_;                    ///< of a term so far
  std::map<std::string, std::string> name_of_column_;  ///< of a recorded loss: in the objective
  LayerMap layers_;
  TaskKind task_ = TaskKind::kUnlabelled;
  std::optional<Objective> objective_;  ///< nothing: the run's loss is no term
  std::unique_ptr<Optimizer> optimizer_;
  Schedule schedule_;
  ClipNorm clip_ = ClipNorm::kGlobal;
  bool parted_ = false;  ///< a code lay between two
  std::string rate_key_ = "lr";
};

class GoldenQatTraining : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenQatTraining, EveryStepOfEveryRunIsTheReferences) {
  QUELL_NEED_DATA(dir, "golden/qat/models/" + GetParam());
  const Json description = read_json_file(dir / "case.json");
  int runs = 0;
  for (const Json& run : description.at("runs")) {
    if (!std::string(run.at("op")).ends_with("_train")) continue;
    SCOPED_TRACE(std::string(run.at("id")));
    TrainingRun(dir, run).check();
    ++runs;
  }
  if (runs == 0) GTEST_SKIP() << GetParam() << " has no training runs";
}

INSTANTIATE_TEST_SUITE_P(All, GoldenQatTraining,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/qat/models")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

}  // namespace
}  // namespace quell::train::testing
