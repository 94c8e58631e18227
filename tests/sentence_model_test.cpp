// Sentence models: modules.json and its folders, prompts, lengths, and what is refused or warned
// about.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/eval/packed_forward.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/json.h"
#include "quell/model/text_encoder.h"
#include "tests/support/sentence_model.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

using quell::testing::SentenceModel;

constexpr std::int64_t kHidden = SentenceModel::kHidden;

class SentenceModels : public ::testing::Test {
 protected:
  SentenceModel model(const std::string& name = "model") { return SentenceModel(scratch / name); }

  static Model load(const fs::path& dir, std::vector<std::string> accepted = {}) {
    return load_model(Checkpoint::open(ModelDirectory(dir, std::move(accepted))));
  }

  std::vector<float> embed_text(const Model& loaded, const std::string& text,
                                const std::string& prompt = "") {
    const std::vector<TokenSequence> sequences = {
        TextEncoder(loaded, 0, prompt).encode(text).tokens};
    return run_packed(*make_float_model(loaded), sequences, "embedding", ctx).front().front();
  }
  std::vector<float> embed_text(const SentenceModel& made, const std::string& text,
                                const std::string& prompt = "") {
    return embed_text(load(made.path()), text, prompt);
  }

  /// The last hidden states of a text, a row a token.
  std::vector<std::vector<float>> hidden(const std::string& text) {
    const fs::path dir = scratch / "plain";
    if (!fs::exists(dir)) fs::copy(quell::testing::kReviews / "model", dir);
    const Model plain = load(dir);
    const std::vector<TokenSequence> sequences = {TextEncoder(plain).encode(text).tokens};
    return run_packed(*make_float_model(plain), sequences, "last_hidden_state", ctx).front();
  }

  static void expect_near(const std::vector<float>& got, const std::vector<double>& want,
                          double tolerance = 1e-5) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_NEAR(static_cast<double>(got[i]), want[i], tolerance) << "dimension " << i;
  }

  static std::string refusal(const fs::path& dir) {
    try {
      load(dir);
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing was refused";
  }

  const std::string kText = "the wine was perfect but the view seemed not boring .";
  quell::testing::ScratchDir scratch;
  ExecContext ctx{2};
};

/// What each mode makes of the rows behind `skipped` tokens.
std::vector<double> pooled(const std::string& mode, const std::vector<std::vector<float>>& rows,
                           std::size_t skipped = 0) {
  std::vector<double> out(rows.front().size(), mode == "max" ? -INFINITY : 0.0);
  double weights = 0;
  for (std::size_t t = skipped; t < rows.size(); ++t) {
    const bool counts = mode == "cls"         ? t == skipped
                        : mode == "lasttoken" ? t + 1 == rows.size()
                                              : true;
    if (!counts) continue;
    const double weight = mode == "weightedmean" ? static_cast<double>(t + 1) : 1.0;
    weights += weight;
    for (std::size_t j = 0; j < out.size(); ++j) {
      const double v = static_cast<double>(rows[t][j]);
      out[j] = mode == "max" ? std::max(out[j], v) : out[j] + weight * v;
    }
  }
  if (mode == "mean" || mode == "weightedmean" || mode == "mean_sqrt_len_tokens")
    for (double& v : out) v /= mode == "mean_sqrt_len_tokens" ? std::sqrt(weights) : weights;
  return out;
}

void append(std::vector<double>& to, const std::vector<double>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

const std::vector<std::string> kModes = {"cls",          "max",      "mean", "mean_sqrt_len_tokens",
                                         "weightedmean", "lasttoken"};

TEST_F(SentenceModels, PoolingModesByName) {
  const auto rows = hidden(kText);
  for (const std::string& mode : kModes) {
    SCOPED_TRACE(mode);
    SentenceModel made = model(mode);
    made.pooling(
        {{"embedding_dimension", kHidden}, {"pooling_mode", mode}, {"include_prompt", true}});
    expect_near(embed_text(made, kText), pooled(mode, rows));
  }
}

TEST_F(SentenceModels, PoolingModesByFlagsStandSideBySideInAFixedOrder) {
  const auto rows = hidden(kText);
  SentenceModel made = model();
  made.pooling({{"word_embedding_dimension", kHidden},
                {"pooling_mode_lasttoken", true},
                {"pooling_mode_weightedmean_tokens", true},
                {"pooling_mode_mean_sqrt_len_tokens", true},
                {"pooling_mode_mean_tokens", true},
                {"pooling_mode_max_tokens", true},
                {"pooling_mode_cls_token", true}});
  std::vector<double> want;
  for (const std::string& mode : kModes) append(want, pooled(mode, rows));
  expect_near(embed_text(made, kText), want);
}

TEST_F(SentenceModels, ListedPoolingModesKeepTheirOrderAndWinOverFlags) {
  const auto rows = hidden(kText);
  SentenceModel made = model();
  made.pooling({{"embedding_dimension", kHidden},
                {"pooling_mode", {"lasttoken", "cls"}},
                {"pooling_mode_max_tokens", true}});
  std::vector<double> want = pooled("lasttoken", rows);
  append(want, pooled("cls", rows));
  expect_near(embed_text(made, kText), want);
}

TEST_F(SentenceModels, PoolingWithoutAnyModeTakesTheMean) {
  SentenceModel made = model();
  made.pooling({{"word_embedding_dimension", kHidden}, {"pooling_mode_cls_token", false}});
  expect_near(embed_text(made, kText), pooled("mean", hidden(kText)));
}

TEST_F(SentenceModels, DenseModulesFollowInTheirOrder) {
  const auto dense = [](const std::vector<double>& x, std::int64_t out,
                        double (*activation)(double)) {
    const auto in = static_cast<std::int64_t>(x.size());
    const Tensor weight = quell::testing::GoldenNumbers(5).make({out, in}, -0.2, 0.2);
    const Tensor bias = quell::testing::GoldenNumbers(6).make({out}, -0.2, 0.2);
    std::vector<double> y;
    for (std::int64_t j = 0; j < out; ++j) {
      double sum = static_cast<double>(bias.f32()[static_cast<std::size_t>(j)]);
      for (std::int64_t k = 0; k < in; ++k)
        sum += static_cast<double>(weight.row(j)[k]) * x[static_cast<std::size_t>(k)];
      y.push_back(activation(sum));
    }
    return y;
  };
  const std::vector<double> mean = pooled("mean", hidden(kText));
  const auto tanh = [](double v) { return std::tanh(v); };
  const auto relu = [](double v) { return std::max(v, 0.0); };

  SentenceModel made = model();
  made.mean()
      .dense(kHidden, 24, "torch.nn.modules.activation.Tanh")
      .dense(24, 10, "torch.nn.modules.activation.ReLU");
  expect_near(embed_text(made, kText), dense(dense(mean, 24, tanh), 10, relu));

  SentenceModel residual = model("residual");
  residual.mean().dense(kHidden, kHidden, "torch.nn.Tanh", {{"use_residual", true}});
  std::vector<double> want = dense(mean, kHidden, tanh);
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += mean[i];
  expect_near(embed_text(residual, kText), want);

  SentenceModel of_tokens = model("tokens");
  of_tokens.dense(kHidden, 12, "torch.nn.modules.linear.Identity",
                  {{"module_input_name", "token_embeddings"}});
  of_tokens.pooling({{"embedding_dimension", 12}, {"pooling_mode", "mean"}});
  expect_near(embed_text(of_tokens, kText), dense(mean, 12, [](double v) { return v; }));
}

TEST_F(SentenceModels, NormalizeAndLayerNorm) {
  const std::vector<double> mean = pooled("mean", hidden(kText));
  double sum = 0, square = 0;
  for (const double v : mean) {
    sum += v;
    square += v * v;
  }
  const double n = static_cast<double>(kHidden), center = sum / n,
               deviation = std::sqrt(square / n - center * center + 1e-5);

  SentenceModel unit = model("unit");
  unit.mean().normalize();
  std::vector<double> want;
  for (const double v : mean) want.push_back(v / std::sqrt(square));
  expect_near(embed_text(unit, kText), want);

  SentenceModel norm = model("norm");
  norm.mean().layer_norm(kHidden).add("3_Dropout", "Dropout");
  norm.write("3_Dropout/config.json", {{"dropout", 0.5}});
  const Tensor weight = quell::testing::GoldenNumbers(7).make({kHidden}, 0.5, 2),
               bias = quell::testing::GoldenNumbers(8).make({kHidden}, -1, 1);
  want.clear();
  for (std::size_t j = 0; j < mean.size(); ++j)
    want.push_back((mean[j] - center) / deviation * static_cast<double>(weight.f32()[j]) +
                   static_cast<double>(bias.f32()[j]));
  expect_near(embed_text(norm, kText), want, 1e-4);
}

TEST_F(SentenceModels, PromptsStandInFrontAndMayBeLeftOutOfPooling) {
  const std::string prompt = "we think ";
  const auto rows = hidden(prompt + kText);
  SentenceModel with = model("with"), without = model("without");
  with.pooling({{"embedding_dimension", kHidden}, {"pooling_mode", {"mean", "cls"}}});
  without.pooling({{"embedding_dimension", kHidden},
                   {"pooling_mode", {"mean", "cls", "weightedmean"}},
                   {"include_prompt", false}});

  std::vector<double> want = pooled("mean", rows);
  append(want, pooled("cls", rows));
  expect_near(embed_text(with, kText, prompt), want);

  want.clear();
  for (const char* mode : {"mean", "cls", "weightedmean"})
    append(want, pooled(mode, rows, 3));  // [CLS] we think
  expect_near(embed_text(without, kText, prompt), want);
}

TEST_F(SentenceModels, DefaultPromptAndOtherSettingsOfTheModel) {
  SentenceModel made = model();
  made.mean().write("config_sentence_transformers.json",
                    {{"__version__", {{"sentence_transformers", "5.0.0"}}},
                     {"prompts", {{"search", "we think "}}},
                     {"default_prompt_name", "search"},
                     {"similarity_fn_name", "manhattan"},
                     {"truncate_dim", 7}});
  const Model loaded = load(made.path());
  EXPECT_EQ(default_prompt(loaded), "we think ");
  EXPECT_EQ(loaded.sentence.similarity, Similarity::kManhattan);
  EXPECT_EQ(embed_text(loaded, kText).size(), 7U);

  made.set("config_sentence_transformers.json", "default_prompt_name", "other");
  EXPECT_NE(refusal(made.path()).find("there is no prompt \"other\""), std::string::npos);
}

TEST_F(SentenceModels, LongestTextFromAllItsPlaces) {
  SentenceModel made = model();
  made.mean();
  const auto longest = [&] { return longest_text(load(made.path())); };
  made.write("sentence_bert_config.json", {{"max_seq_length", 20}});
  EXPECT_EQ(longest(), 20);
  made.write("sentence_bert_config.json", {{"max_seq_length", nullptr}});
  made.set("tokenizer_config.json", "model_max_length", 30);
  EXPECT_EQ(longest(), 30);
  made.write("sentence_bert_config.json",
             {{"max_seq_length", 20}, {"tokenizer_args", {{"model_max_length", 25}}}});
  EXPECT_EQ(longest(), 25);
  made.write("sentence_bert_config.json",
             {{"processing_kwargs", {{"text", {{"max_length", 12}}}}}});
  EXPECT_EQ(longest(), 12);

  fs::remove(made.path() / "sentence_bert_config.json");
  made.set("tokenizer_config.json", "model_max_length", 1e30);
  EXPECT_EQ(longest(), 64) << "the positions";
  made.write("sentence_roberta_config.json", {{"max_seq_length", 18}});
  EXPECT_EQ(longest(), 18) << "an older name of the file";
  made.write("sentence_roberta_config.json", {{"max_seq_length", 4000}});
  EXPECT_EQ(longest(), 64) << "more than the positions";
}

TEST_F(SentenceModels, TextsAreCutWhereTheTokenizerSays) {
  SentenceModel made = model();
  made.mean().write("sentence_bert_config.json", {{"max_seq_length", 5}});
  const auto ids = [&] {
    return TextEncoder(load(made.path())).encode("the wine was perfect but boring");
  };
  const TextEncoder::Encoded right = ids();
  made.set("tokenizer_config.json", "truncation_side", "left");
  const TextEncoder::Encoded left = ids();
  EXPECT_TRUE(right.cut && left.cut);

  const Tokenizer tokenizer = open_tokenizer(load(made.path()));
  EXPECT_EQ(tokenizer.decode(right.tokens.ids), "the wine was");
  EXPECT_EQ(tokenizer.decode(left.tokens.ids), "perfect but boring");
}

TEST_F(SentenceModels, LowerCaseBeforeTheTokenizer) {
  SentenceModel made = model();
  made.mean().set("tokenizer_config.json", "do_lower_case", false);
  const std::string shouted = "The WINE was Perfect";
  EXPECT_NE(embed_text(made, shouted), embed_text(made, "the wine was perfect"));
  made.set("sentence_bert_config.json", "do_lower_case", true);
  EXPECT_EQ(embed_text(made, shouted), embed_text(made, "the wine was perfect"));
}

TEST_F(SentenceModels, EncoderWithoutPoolerAndWithOlderNames) {
  SentenceModel made = model();
  made.mean().set("config.json", "architectures", {"BertModel"});
  const std::vector<float> want = embed_text(model("usual").mean(), kText);

  const SafetensorsFile file(quell::testing::kReviews / "model" / "model.safetensors");
  std::map<std::string, TensorView> tensors;
  for (const auto& [name, view] : file.tensors())
    if (name.find("pooler") == std::string::npos && name.starts_with("bert."))
      tensors["auto_model." + name.substr(5)] = view;
  ASSERT_FALSE(tensors.empty());
  write_safetensors(made.path() / "model.safetensors", tensors);
  EXPECT_EQ(embed_text(made, kText), want);
  EXPECT_EQ(refusal(made.path()), "nothing was refused");
}

TEST_F(SentenceModels, EncoderInAFolderOfItsOwnComesBackFromAnExport) {
  SentenceModel made = model();
  made.mean().dense(kHidden, 6, "torch.nn.modules.activation.Sigmoid");
  const std::vector<float> want = embed_text(made, kText);

  fs::create_directory(made.path() / "0_Transformer");
  for (const char* name : {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json",
                           "sentence_bert_config.json"})
    fs::rename(made.path() / name, made.path() / "0_Transformer" / name);
  Json modules = made.read("modules.json");
  modules[0]["path"] = "0_Transformer";
  made.write("modules.json", modules);
  EXPECT_EQ(embed_text(made, kText), want);

  export_float_checkpoint(load(made.path()), scratch / "exported", false);
  EXPECT_EQ(embed_text(load(scratch / "exported"), kText), want);
}

TEST_F(SentenceModels, OtherModulesAreRefusedByNameUnlessAccepted) {
  for (const char* type :
       {"WordEmbeddings", "CNN", "LSTM", "BoW", "WordWeights", "WeightedLayerPooling", "CLIPModel",
        "Router", "Asym", "StaticEmbedding",
        "sentence_transformers.sparse_encoder.models.SpladePooling",
        "sentence_transformers.sparse_encoder.models.MLMTransformer", "custom_code.Pooling"}) {
    SentenceModel made = model(type);
    made.mean().add("2_Other", type);
    const std::string line = refusal(made.path());
    EXPECT_NE(line.find("modules.json"), std::string::npos) << line;
    EXPECT_NE(line.find(type), std::string::npos) << line;
    EXPECT_NE(line.find("--accept modules.2.type"), std::string::npos) << line;
    EXPECT_FALSE(load(made.path(), {"modules.2.type"}).sentence.defined());
  }
}

TEST_F(SentenceModels, SettingsThatChangeResultsAreRefused) {
  struct Case {
    const char* file;
    Json content;
    const char* said;
  };
  const std::vector<Case> cases = {
      {"sentence_bert_config.json",
       {{"tokenizer_name_or_path", "other"}},
       "tokenizer_name_or_path"},
      {"sentence_bert_config.json", {{"transformer_task", "fill-mask"}}, "transformer_task"},
      {"sentence_bert_config.json",
       {{"modality_config", {{"message", Json::object()}}}},
       "chat template"},
      {"sentence_bert_config.json",
       {{"modality_config", {{"text", {{"method_output_name", "pooler_output"}}}}}},
       "method_output_name"},
      {"sentence_bert_config.json",
       {{"config_args", {{"num_hidden_layers", 2}}}},
       "config_args.num_hidden_layers"},
      {"sentence_bert_config.json", {{"query_length", 32}}, "query_length"},
      {"config_sentence_transformers.json", {{"model_type", "SparseEncoder"}}, "SparseEncoder"},
      {"config_sentence_transformers.json", {{"similarity_fn_name", "maxsim"}}, "maxsim"},
      {"1_Pooling/config.json", {{"pooling_mode", "attention"}}, "attention"}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SentenceModel made = model(std::to_string(i));
    made.mean().write(cases[i].file, cases[i].content);
    const std::string line = refusal(made.path());
    EXPECT_NE(line.find(cases[i].file), std::string::npos) << line;
    EXPECT_NE(line.find(cases[i].said), std::string::npos) << line;
  }
  SentenceModel dense = model("dense");
  dense.mean().dense(kHidden, 8, "my_code.Swish");
  EXPECT_NE(refusal(dense.path()).find("my_code.Swish"), std::string::npos);
  SentenceModel sizes = model("sizes");
  sizes.mean().dense(40, 8, "torch.nn.Tanh");
  EXPECT_NE(refusal(sizes.path()).find("takes 40 dimensions, what is in front of it gives 96"),
            std::string::npos);
}

TEST_F(SentenceModels, APoolingFolderThatNoFileNames) {
  SentenceModel made = model();
  made.pooling({{"word_embedding_dimension", kHidden}, {"pooling_mode_mean_tokens", true}});
  const std::vector<float> want = embed_text(made, kText);
  fs::remove(made.path() / "modules.json");
  EXPECT_EQ(embed_text(made, kText), want)
      << "the mean, which is what sentence-transformers takes without modules.json";

  made.write("1_Pooling/config.json", {{"pooling_mode_cls_token", true}});
  EXPECT_NE(refusal(made.path()).find("there is no modules.json"), std::string::npos);
}

/// Messages while it lives.
class Messages {
 public:
  Messages() {
    set_log_sink([this](LogLevel, const std::string& message) { all.push_back(message); });
  }
  ~Messages() { set_log_sink(nullptr); }
  bool hold(const std::string& part) const {
    for (const std::string& m : all)
      if (m.find(part) != std::string::npos) return true;
    return false;
  }
  std::vector<std::string> all;
};

TEST_F(SentenceModels, AnUnknownKeyInAnyOfTheFilesIsWarnedAbout) {
  SentenceModel made = model();
  made.mean().dense(kHidden, kHidden, "torch.nn.Tanh").layer_norm(kHidden).normalize();
  made.write("4_Normalize/config.json", {{"module_input_name", "sentence_embedding"}});
  made.write("config_sentence_transformers.json", {{"prompts", Json::object()}});
  {
    const Messages messages;
    load(made.path());
    EXPECT_TRUE(messages.all.empty()) << messages.all.front();
  }
  for (const char* file : {"1_Pooling/config.json", "2_Dense/config.json",
                           "3_LayerNorm/config.json", "4_Normalize/config.json",
                           "sentence_bert_config.json", "config_sentence_transformers.json"}) {
    const Json before = made.read(file);
    made.set(file, "brand_new_key", 3);
    const Messages messages;
    load(made.path());
    EXPECT_TRUE(messages.hold(std::string(file) + ": key \"brand_new_key\" (3) is not known"))
        << file;
    made.write(file, before);
  }
  Json modules = made.read("modules.json");
  modules[1]["brand_new_key"] = 3;
  made.write("modules.json", modules);
  const Messages messages;
  load(made.path());
  EXPECT_TRUE(messages.hold("modules.json: key \"modules.1.brand_new_key\" (3) is not known"));
}

}  // namespace
}  // namespace quell
