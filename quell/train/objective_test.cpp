// Terms on tiny models: values against the formula written out, padding, what is refused.
#include "quell/train/objective.h"

#include <gtest/gtest.h>

#include <functional>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/train/losses/attention_maps.h"
#include "quell/train/losses/hidden_states.h"
#include "quell/train/losses/logits.h"
#include "quell/train/losses/token_scaled.h"
#include "quell/train/small_models.h"
#include "quell/train/tiny_configs.h"

namespace quell::train {
namespace {

using Values = std::map<std::string, std::string>;

TermChoice choice(const std::string& name, Values values = {}, double weight = 1) {
  return {MethodParams(name, std::move(values), "term"), weight};
}

/// Sentences of these lengths, padded to `length`; tokens depend on their place alone.
TrainingBatch batch_of(TaskKind kind, const std::vector<int>& lengths, int length) {
  TrainingBatch out;
  out.kind = kind;
  out.tokens.batch = std::ssize(lengths);
  out.tokens.length = length;
  for (int b = 0; b < static_cast<int>(lengths.size()); ++b)
    for (int t = 0; t < length; ++t) {
      const bool is_there = t < lengths[static_cast<std::size_t>(b)];
      out.tokens.ids.push_back(is_there ? (7 * b + 3 * t + 2) % kTinyWords : 0);
      out.tokens.mask.push_back(is_there ? 1 : 0);
      out.tokens.type_ids.push_back(0);
    }

  const torch::Tensor mask = torch::tensor(out.tokens.mask).view({out.tokens.batch, length});
  const torch::Tensor ids = torch::tensor(out.tokens.ids).to(torch::kInt64).view_as(mask);
  if (kind == TaskKind::kClasses) out.labels = torch::arange(out.tokens.batch) % 3;
  if (kind == TaskKind::kValue) out.labels = torch::arange(out.tokens.batch).to(torch::kFloat32);
  if (kind == TaskKind::kCausalLm || kind == TaskKind::kMaskedLm)
    out.labels = ids.masked_fill(mask.eq(0), kIgnoredLabel);
  return out;
}

/// A student and a teacher with other weights.
struct Pair {
  explicit Pair(const Json& student_config, const Json& teacher_config)
      : student_model(random_model(build_architecture(Settings(student_config)), 1)),
        teacher_model(random_model(build_architecture(Settings(teacher_config)), 2)),
        student(student_model, torch::kFloat64),
        teacher(teacher_model, torch::kFloat64),
        layers(make_layer_map(student_model.graph, teacher_model.graph, "")) {}
  explicit Pair(const Json& config) : Pair(config, config) {}

  TermSetting setting(TaskKind task) const { return {student, &teacher, layers, task}; }

  Model student_model;
  Model teacher_model;
  TorchModel student;
  TorchModel teacher;
  LayerMap layers;
};

struct Passes {
  Passes(const Pair& pair, const Objective& objective, const TrainingBatch& batch)
      : student(pair.student.forward(batch.tokens, objective.student_taps())) {
    const torch::NoGradGuard guard;
    teacher = pair.teacher.forward(batch.tokens, objective.teacher_taps());
  }
  TorchOutputs student;
  TorchOutputs teacher;
};

double value_of(const Pair& pair, const TermChoice& term, const TrainingBatch& batch) {
  Objective objective({term}, pair.setting(batch.kind));
  const Passes passes(pair, objective, batch);
  return objective.values({batch, passes.student, passes.teacher}).at("loss").item<double>();
}

std::string refusal_of(const Pair& pair, const TermChoice& term, TaskKind task) {
  return refusal([&] { Objective({term}, pair.setting(task)); });
}

TEST(LayerMap, SpreadsEvenlyOrAsNamed) {
  const Pair pair(tiny_bert(2), tiny_bert(6));
  const Graph& student = pair.student_model.graph;
  const Graph& teacher = pair.teacher_model.graph;
  EXPECT_EQ(pair.layers, (LayerMap{{2, 5}}));
  EXPECT_EQ(make_layer_map(student, teacher, "0,4"), (LayerMap{{0, 4}}));
  for (const char* wrong : {"0", "0,6", "0,x", "0,1,2", "0/1"})
    EXPECT_NE(refusal([&] { make_layer_map(student, teacher, wrong); }), "") << wrong;
  EXPECT_NE(refusal([&] { make_layer_map(teacher, student, ""); }), "");

  const ValuePairs hidden = hidden_state_pairs(student, teacher, pair.layers);
  const std::vector<ValueId>& all = teacher.stacks[0].hidden_states;
  EXPECT_EQ(hidden.student, student.stacks[0].hidden_states);
  EXPECT_EQ(hidden.teacher, (std::vector<ValueId>{all[0], all[3], all[6]}));
  const NodePairs attentions = attention_pairs(student, teacher, pair.layers);
  ASSERT_EQ(attentions.teacher.size(), 2U);
  EXPECT_EQ(teacher.node(attentions.teacher[0]).place.layer, 2);
}

TEST(LayerMap, OfEncoderAndDecoderNamesBoth) {
  const Pair pair(tiny_bart(1), tiny_bart(3));
  EXPECT_EQ(pair.layers, (LayerMap{{2}, {2}}));
  const Graph& student = pair.student_model.graph;
  EXPECT_EQ(make_layer_map(student, pair.teacher_model.graph, "0/1"), (LayerMap{{0}, {1}}));
  EXPECT_EQ(make_layer_map(student, pair.teacher_model.graph, "1"), (LayerMap{{2}, {1}}));
  // The encoder's, the decoder's own, and the cross attention.
  EXPECT_EQ(attention_pairs(student, pair.teacher_model.graph, pair.layers).student.size(), 3U);
}

TEST(Objective, WeighsNamesAndSums) {
  const Pair pair(tiny_bert(2));
  Objective objective({choice("labels"), choice("logits", {}, 0.5),
                       choice("logits", {{"kind", "kl"}, {"temperature", "3"}}, 2),
                       choice("hidden_states"), choice("token_contrastive")},
                      pair.setting(TaskKind::kClasses));
  // Last hidden states are wanted by two terms, and tapped once.
  EXPECT_EQ(objective.student_taps().values.size(), 3U);

  const TrainingBatch batch = batch_of(TaskKind::kClasses, {5, 3}, 5);
  const Passes passes(pair, objective, batch);
  const TermInput input{batch, passes.student, passes.teacher};
  const auto values = objective.values(input);
  const torch::Tensor s = passes.student.values.at("logits");
  const torch::Tensor t = passes.teacher.values.at("logits");
  const double labels = torch::cross_entropy_loss(s, batch.labels).item<double>();
  EXPECT_NEAR(values.at("labels").item<double>(), labels, 1e-12);
  EXPECT_NEAR(values.at("logits").item<double>(), soft_cross_entropy(s, t).item<double>(), 1e-12);
  EXPECT_NEAR(values.at("logits.2").item<double>(), kl_at_temperature(s, t, 3).item<double>(),
              1e-12);
  const torch::Tensor sum = values.at("labels") + 0.5 * values.at("logits") +
                            2 * values.at("logits.2") + values.at("hidden_states") +
                            values.at("token_contrastive");
  EXPECT_NEAR(values.at("loss").item<double>(), sum.item<double>(), 1e-12);

  values.at("loss").backward();
  EXPECT_GT(pair.student.parameters().trained()[0].tensor.grad().abs().sum().item<double>(), 0);
  EXPECT_FALSE(pair.teacher.parameters().trained()[0].tensor.grad().defined());

  const auto looked_at = objective.diagnostics(input);
  EXPECT_TRUE(looked_at.contains("hidden_states.pairwise_cosine"));
  EXPECT_TRUE(looked_at.contains("token_contrastive.singular_value_entropy"));
  EXPECT_EQ(objective.state().at(0).name, "token_contrastive.bank");
}

TEST(Objective, RefusesWhatDoesNotFit) {
  const Pair bert(tiny_bert(2));
  const LayerMap none;
  const TermSetting alone{bert.student, nullptr, none, TaskKind::kClasses};
  EXPECT_NE(refusal([&] { Objective({choice("logits")}, alone); }).find("\"logits\": needs a tea"),
            std::string::npos);
  EXPECT_EQ(refusal([&] { Objective({choice("labels")}, alone); }), "");
  EXPECT_NE(refusal_of(bert, choice("labels"), TaskKind::kUnlabelled).find("needs labels"),
            std::string::npos);
  EXPECT_NE(refusal_of(bert, choice("labels"), TaskKind::kCausalLm), "");
  EXPECT_NE(refusal_of(bert, choice("token_scaled"), TaskKind::kClasses), "");
  EXPECT_NE(refusal_of(bert, choice("logit"), TaskKind::kClasses).find("hidden_states"),
            std::string::npos);
  EXPECT_NE(refusal_of(bert, choice("logits", {{"k", "2"}}), TaskKind::kClasses), "");
  EXPECT_NE(refusal_of(bert, choice("logits", {{"kind", "cakld"}}), TaskKind::kClasses), "");
  EXPECT_NE(refusal_of(bert, choice("logits", {}, -1), TaskKind::kClasses), "");
  EXPECT_NE(refusal([&] { Objective({}, alone); }), "");

  Json wide = tiny_bert(2);
  wide["hidden_size"] = 16;
  wide["num_attention_heads"] = 4;
  wide["num_labels"] = 4;
  const Pair other(tiny_bert(2), wide);
  for (const char* term : {"logits", "hidden_states", "attention_scores", "attention_maps",
                           "attention_outputs", "token_contrastive"})
    EXPECT_NE(refusal_of(other, choice(term), TaskKind::kClasses).find(term), std::string::npos);
  EXPECT_EQ(refusal_of(other, choice("sample_contrastive"), TaskKind::kClasses), "");
}

TEST(Objective, RefusesLabelsThatTheModelDoesNotHave) {
  const Pair pair(tiny_bert(1));
  TrainingBatch batch = batch_of(TaskKind::kClasses, {3, 3}, 3);
  batch.labels = torch::tensor({0, 3}, torch::kInt64);
  EXPECT_NE(refusal([&] { value_of(pair, choice("labels"), batch); }).find("label 3"),
            std::string::npos);
}

TEST(Objective, ValuesAreCompared) {
  Json config = tiny_bert(1);
  config["num_labels"] = 1;
  const Pair pair(config);
  const TrainingBatch batch = batch_of(TaskKind::kValue, {3, 4}, 4);
  const torch::Tensor s = pair.student.forward(batch.tokens).values.at("logits");
  const torch::Tensor t = pair.teacher.forward(batch.tokens).values.at("logits");
  EXPECT_NEAR(value_of(pair, choice("labels"), batch),
              (s.squeeze(1) - batch.labels).square().mean().item<double>(), 1e-9);
  EXPECT_NEAR(value_of(pair, choice("logits"), batch), (s - t).square().mean().item<double>(),
              1e-12);
  EXPECT_NE(refusal_of(pair, choice("logits", {{"kind", "kl"}}), TaskKind::kValue), "");
  const TermChoice either =
      choice("logits", {{"kind", "soft_cross_entropy"}, {"regression", "mse"}});
  EXPECT_NEAR(value_of(pair, either, batch), (s - t).square().mean().item<double>(), 1e-12);
}

/// Whose value more padding does not change.
struct Padded {
  const char* model;
  TaskKind task;
  const char* term;
  Values values = {};
};

TEST(Objective, PaddingCountsNothing) {
  const std::vector<Padded> cases = {
      {"bert", TaskKind::kClasses, "attention_maps"},
      {"bert", TaskKind::kClasses, "token_contrastive"},
      {"bert", TaskKind::kClasses, "sample_contrastive"},
      {"bert", TaskKind::kClasses, "sample_contrastive", {{"reweighting_temperature", "0.5"}}},
      {"bert_lm", TaskKind::kMaskedLm, "labels"},
      {"bert_lm", TaskKind::kMaskedLm, "logits"},
      {"gpt2", TaskKind::kCausalLm, "labels"},
      {"gpt2", TaskKind::kCausalLm, "token_scaled", {{"tau", "2"}}},
      {"gpt2", TaskKind::kCausalLm, "attention_maps"},
      {"gpt2", TaskKind::kUnlabelled, "logits"},
      {"gpt2", TaskKind::kCausalLm, "logits"},
      {"gpt2", TaskKind::kCausalLm, "logits", {{"kind", "kl"}, {"temperature", "2"}}},
      {"gpt2", TaskKind::kCausalLm, "logits", {{"kind", "reverse_kl"}}},
      {"gpt2", TaskKind::kCausalLm, "logits", {{"kind", "cakld"}, {"share", "0.3"}}},
      {"gpt2", TaskKind::kCausalLm, "logits", {{"kind", "jsd"}}},
      {"gpt2", TaskKind::kCausalLm, "logits", {{"kind", "top_k"}, {"k", "3"}}},
      {"gpt2", TaskKind::kCausalLm, "logits", {{"kind", "mse"}}}};
  for (const Padded& c : cases) {
    SCOPED_TRACE(std::string(c.model) + " " + c.term);
    Json config = tiny_bert(2);
    if (c.model == std::string("bert_lm")) config["architectures"] = {"BertForMaskedLM"};
    if (c.model == std::string("gpt2")) config = tiny_gpt2(2);
    const Pair pair(config);
    const double tight = value_of(pair, choice(c.term, c.values), batch_of(c.task, {5, 3}, 5));
    const double loose = value_of(pair, choice(c.term, c.values), batch_of(c.task, {5, 3}, 7));
    EXPECT_GT(std::abs(tight), 1e-6);
    EXPECT_NEAR(tight, loose, 1e-9 * (1 + std::abs(tight)));
  }
}

/// Of the mean over batches, as long as it is measured.
TEST(Objective, TheTeachersConfidenceIsMeasuredWithTheFirstBatches) {
  const Pair pair(tiny_gpt2(2));
  const TrainingBatch first = batch_of(TaskKind::kCausalLm, {5, 3}, 5);
  const TrainingBatch second = batch_of(TaskKind::kCausalLm, {2, 4}, 4);
  const auto confidence = [&](const TrainingBatch& batch) {
    const torch::Tensor logits = pair.teacher.forward(batch.tokens).values.at("logits");
    const torch::Tensor p = torch::softmax(logits, -1).view({batch.tokens.batch, -1, kTinyWords});
    double sum = 0;
    int count = 0;
    for (std::int64_t b = 0; b < batch.tokens.batch; ++b)
      for (std::int64_t t = 0; t + 1 < batch.tokens.length; ++t) {
        const auto label = batch.labels[b][t + 1].item<std::int64_t>();
        if (label == kIgnoredLabel) continue;
        sum += p[b][t][label].item<double>();
        ++count;
      }
    return sum / count;
  };
  const auto value_at = [&](double share, const TrainingBatch& batch) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", share);
    return value_of(pair, choice("logits", {{"kind", "cakld"}, {"share", text}}), batch);
  };

  Objective measured({choice("logits", {{"kind", "cakld"}, {"share", "measured"}})},
                     pair.setting(TaskKind::kCausalLm));
  const auto next = [&](const TrainingBatch& batch) {
    const TorchOutputs student = pair.student.forward(batch.tokens);
    const TorchOutputs teacher = pair.teacher.forward(batch.tokens);
    return measured.values({batch, student, teacher}).at("loss").item<double>();
  };
  const double of_first = confidence(first);
  EXPECT_NEAR(next(first), value_at(of_first, first), 1e-12);
  const double of_both = (of_first + confidence(second)) / 2;
  EXPECT_NEAR(next(second), value_at(of_both, second), 1e-12);
  ASSERT_EQ(measured.state().size(), 1U);

  for (int i = 2; i < 10; ++i) next(first);
  const double after_ten = next(first);
  EXPECT_EQ(next(second), next(second)) << "it stays behind the tenth batch";
  EXPECT_EQ(next(first), after_ten);
}

TEST(Objective, NextTokensAreThoseOfTheFormulas) {
  const Pair pair(tiny_gpt2(2));
  const TrainingBatch batch = batch_of(TaskKind::kCausalLm, {5, 5}, 5);
  const torch::Tensor s = pair.student.forward(batch.tokens).values.at("logits").view({2, 5, -1});
  const torch::Tensor t = pair.teacher.forward(batch.tokens).values.at("logits").view({2, 5, -1});
  EXPECT_NEAR(value_of(pair, choice("labels"), batch),
              next_token_cross_entropy(s, batch.labels).item<double>(), 1e-12);
  EXPECT_NEAR(value_of(pair, choice("logits"), batch),
              next_token_soft_cross_entropy(s, t).item<double>(), 1e-12);
  EXPECT_NEAR(value_of(pair, choice("token_scaled", {{"tau", "10"}}), batch),
              token_scaled_soft_cross_entropy(s, t, batch.labels, 10).item<double>(), 1e-12);

  // Summed over the positions of a sequence: four of them predict another.
  const double mean = value_of(pair, choice("logits"), batch);
  EXPECT_NEAR(value_of(pair, choice("logits", {{"positions", "sum"}}), batch), 4 * mean, 1e-9);
}

TEST(Objective, LabelsOfDecodersStandAtTheirPositions) {
  const Pair pair(tiny_bart(1));
  TrainingBatch batch = batch_of(TaskKind::kSeq2Seq, {5, 3}, 5);
  batch.tokens.decoder_length = 3;
  batch.tokens.decoder_ids = {2, 5, 6, 2, 7, 1};
  batch.tokens.decoder_mask = {1, 1, 1, 1, 1, 0};
  batch.labels = torch::tensor({5, 6, 9, 7, 2, -100}, torch::kInt64).view({2, 3});
  const torch::Tensor s = pair.student.forward(batch.tokens).values.at("logits");
  const torch::Tensor want =
      torch::cross_entropy_loss(s.narrow(0, 0, 5), batch.labels.flatten().narrow(0, 0, 5));
  EXPECT_NEAR(value_of(pair, choice("labels"), batch), want.item<double>(), 1e-12);
  // Cross attention's maps are not square.
  for (const char* term : {"attention_maps", "attention_scores", "attention_outputs", "logits",
                           "hidden_states", "token_contrastive", "sample_contrastive"})
    EXPECT_GT(std::abs(value_of(pair, choice(term), batch)), 1e-6) << term;
}

TEST(AttentionOutputs, AreThoseOfTheirPlace) {
  const Pair pair(tiny_bert(1));
  const TrainingBatch batch = batch_of(TaskKind::kClasses, {4, 3}, 4);
  const auto by_label = [&](const char* label) {
    const auto tapped = [&](const TorchModel& model) {
      const ValueId v = model.graph().node(model.graph().find(label)).out;
      return model.forward(batch.tokens, {{v}, {}}).taps.at(v);
    };
    return layer_mse({tapped(pair.student)}, {tapped(pair.teacher)}).item<double>();
  };
  EXPECT_NEAR(value_of(pair, choice("attention_outputs"), batch),
              by_label("layers.0.attention_norm"), 1e-12);
  EXPECT_NEAR(value_of(pair, choice("attention_outputs", {{"point", "projection"}}), batch),
              by_label("layers.0.out_proj"), 1e-12);
  const double sum = value_of(pair, choice("attention_outputs", {{"point", "residual"}}), batch);
  const double context = value_of(pair, choice("attention_outputs", {{"point", "context"}}), batch);
  EXPECT_GT(sum, 0);
  EXPECT_GT(context, 0);
  EXPECT_NE(sum, by_label("layers.0.out_proj"));

  // A pre-norm model has no norm behind the sum but the next sublayer's.
  const Pair gpt2(tiny_gpt2(1));
  EXPECT_NE(
      refusal_of(gpt2, choice("attention_outputs"), TaskKind::kCausalLm).find("layers.0.attention"),
      std::string::npos);
  EXPECT_EQ(
      refusal_of(gpt2, choice("attention_outputs", {{"point", "residual"}}), TaskKind::kCausalLm),
      "");
}

TEST(AttentionTerms, ScoresLeaveOutWhatNobodySees) {
  const Pair pair(tiny_bert(1), tiny_bert(2));
  const TrainingBatch batch = batch_of(TaskKind::kClasses, {4, 2}, 4);
  Objective objective({choice("attention_scores")}, pair.setting(TaskKind::kClasses));
  const Passes passes(pair, objective, batch);
  const torch::Tensor s = passes.student.attention.begin()->second;
  const torch::Tensor t = passes.teacher.attention.begin()->second;
  const torch::Tensor seen = torch::tensor(batch.tokens.mask).view({2, 1, 1, 4}).ne(0);
  const torch::Tensor want = ((s - t) * seen).square().mean();
  const TermInput input{batch, passes.student, passes.teacher};
  EXPECT_NEAR(objective.values(input).at("loss").item<double>(), want.item<double>(), 1e-12);
  EXPECT_GT(objective.diagnostics(input).at("attention_scores.ranking_loss"), 0);
  EXPECT_NE(
      refusal_of(pair, choice("attention_scores", {{"kind", "causal_map"}}), TaskKind::kClasses),
      "");
}

TEST(AttentionTerms, DiagnosticsOfEqualModelsAreThoseOfNoDifference) {
  const Pair pair(tiny_bert(2));
  const TrainingBatch batch = batch_of(TaskKind::kClasses, {6, 3}, 6);
  Objective objective({choice("attention_maps")}, pair.setting(TaskKind::kClasses));
  const TorchOutputs teacher = pair.teacher.forward(batch.tokens, objective.teacher_taps());
  const auto same = objective.diagnostics({batch, teacher, teacher});
  EXPECT_EQ(same.at("attention_maps.ranking_loss"), 0);

  const TorchOutputs student = pair.student.forward(batch.tokens, objective.student_taps());
  const auto other = objective.diagnostics({batch, student, teacher});
  EXPECT_GT(other.at("attention_maps.ranking_loss"), 0);
  EXPECT_GE(other.at("attention_maps.cover_length"), same.at("attention_maps.cover_length"));
}

TEST(TokenContrastiveTerm, StateIsTheBankThatItReads) {
  const Pair pair(tiny_bert(1));
  const TrainingBatch batch = batch_of(TaskKind::kClasses, {5, 3}, 5);
  Objective objective({choice("token_contrastive")}, pair.setting(TaskKind::kClasses));
  const std::vector<NamedTensor> state = objective.state();
  const Passes passes(pair, objective, batch);
  const TermInput input{batch, passes.student, passes.teacher};
  const double first = objective.values(input).at("loss").item<double>();
  EXPECT_GT(state[0].value.abs().sum().item<double>(), 0);

  const torch::NoGradGuard guard;
  state[0].value.zero_();
  state[1].value.zero_();
  EXPECT_EQ(objective.values(input).at("loss").item<double>(), first);
}

TEST(SampleContrastiveTerm, MapsLearnAndComeFromTheSeed) {
  Json wide = tiny_bert(2);
  wide["hidden_size"] = 16;
  const Pair pair(tiny_bert(2), wide);
  const TrainingBatch batch = batch_of(TaskKind::kClasses, {5, 3, 4}, 5);
  const auto made = [&](const char* seed) {
    return Objective({choice("sample_contrastive", {{"width", "6"}, {"seed", seed}})},
                     pair.setting(TaskKind::kClasses));
  };
  Objective objective = made("3");
  const std::vector<NamedTensor> maps = objective.parameters();
  ASSERT_EQ(maps.size(), 2U);
  EXPECT_EQ(maps[0].value.sizes().vec(), (std::vector<std::int64_t>{6, 2 * 8}));
  EXPECT_EQ(maps[1].value.sizes().vec(), (std::vector<std::int64_t>{6, 2 * 16}));
  EXPECT_TRUE(maps[0].value.equal(made("3").parameters()[0].value));
  EXPECT_FALSE(maps[0].value.equal(made("4").parameters()[0].value));

  const Passes passes(pair, objective, batch);
  const TermInput input{batch, passes.student, passes.teacher};
  objective.values(input).at("loss").backward();
  EXPECT_TRUE(objective.diagnostics(input).contains("sample_contrastive.margin"));

  const torch::NoGradGuard guard;
  constexpr double kStep = 1e-5;
  for (const NamedTensor& map : maps) {
    const torch::Tensor at = map.value.view(-1)[5];
    const double slope = map.value.grad().view(-1)[5].item<double>();
    const auto loss = [&] { return objective.values(input).at("loss").item<double>(); };
    at.add_(kStep);
    const double up = loss();
    at.sub_(2 * kStep);
    const double down = loss();
    at.add_(kStep);
    EXPECT_NEAR(slope, (up - down) / (2 * kStep), 1e-6) << map.name;
  }
}

}  // namespace
}  // namespace quell::train
