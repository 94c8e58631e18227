// embed, classify and rerank on small models, and the promise that an embedding does not depend on
// what stands beside it.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <sstream>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/eval/packed_forward.h"
#include "quell/io/json.h"
#include "quell/job/classify_job.h"
#include "quell/job/embed_job.h"
#include "quell/job/engine.h"
#include "quell/job/quantize_job.h"
#include "quell/job/rerank_job.h"
#include "tests/support/sentence_model.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

using quell::testing::run_quell;
using quell::testing::SentenceModel;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

class TextCommands : public ::testing::Test {
 protected:
  TextCommands() : model(scratch / "model") {}

  std::vector<std::vector<float>> embed_lines(const fs::path& file, EmbedJob job = {}) {
    job.text.model_dir = model.path();
    job.text.input.file = file;
    std::istringstream in;
    std::ostringstream out;
    run_embed_job(job, in, out, ctx);
    std::vector<std::vector<float>> embeddings;
    for (const std::string& line : lines_of(out.str()))
      embeddings.push_back(Json::parse(line)["embedding"].get<std::vector<float>>());
    return embeddings;
  }
  fs::path file(const std::string& name, const std::string& text) {
    write_text_file(scratch / name, text);
    return scratch / name;
  }

  quell::testing::ScratchDir scratch;
  SentenceModel model;
  ExecContext ctx{2};
};

TEST_F(TextCommands, EmbeddingsKeepTheOrderOfTheTextsAndEmptyLinesAreTexts) {
  model.mean();
  const auto all = embed_lines(
      file("texts.txt",
           "the wine was perfect\n\nthe view\nwe think nobody said the wine was not boring .\n"));
  ASSERT_EQ(all.size(), 4U);
  const std::vector<std::string> texts = {"the wine was perfect", "", "the view",
                                          "we think nobody said the wine was not boring ."};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto alone = embed_lines(file("one.txt", texts[i] + "\n"));
    ASSERT_EQ(alone.size(), 1U);
    for (std::size_t j = 0; j < alone[0].size(); ++j)
      EXPECT_NEAR(alone[0][j], all[i][j], 1e-5) << texts[i];
  }
}

TEST_F(TextCommands, LineEndsAndByteOrderMarksChangeNothing) {
  model.mean();
  const auto plain = embed_lines(file("a.txt", "the wine\nthe view"));
  EXPECT_EQ(plain.size(), 2U);
  EXPECT_EQ(embed_lines(file("b.txt", "\xEF\xBB\xBFthe wine\r\nthe view\r\n")), plain);
  EXPECT_EQ(embed_lines(file("c.jsonl", "{\"text\": \"the wine\"}\n\n{\"text\": \"the view\"}\n")),
            plain);
  EXPECT_EQ(embed_lines(file("d.tsv", "id\ttext\n1\tthe wine\n2\tthe view\n")), plain);
  EXPECT_EQ(embed_lines(file("e.jsonl", "{\"input_ids\": [2, 5, 36, 3]}\n")).size(), 1U);
}

TEST_F(TextCommands, BadInputIsOneLineWithItsPlace) {
  model.mean();
  const auto said = [&](const fs::path& path) {
    const auto result = run_quell("embed " + model.text() + " '" + path.string() + "'");
    EXPECT_EQ(result.exit_code, 1) << path;
    EXPECT_EQ(lines_of(result.err).size(), 1U) << result.err;
    return result.err;
  };
  EXPECT_NE(said(file("latin1.txt", "good\ncaf\xE9\n")).find("latin1.txt:2: not UTF-8"),
            std::string::npos);
  EXPECT_NE(said(file("no_text.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n"))
                .find("no_text.jsonl:2: no string \"text\""),
            std::string::npos);
  EXPECT_NE(
      said(file("ids.jsonl", "{\"input_ids\": [2, 5000]}\n")).find("ids.jsonl:1: token id 5000"),
      std::string::npos);
  EXPECT_NE(said(scratch / "missing.txt").find("cannot open"), std::string::npos);
  EXPECT_NE(said(scratch.path()).find("is a folder"), std::string::npos);
  for (const char* wrong : {"--truncate-dim 97", "--prompt-name nobody",
                            "--prompt a --prompt-name query", "--output out.txt"})
    EXPECT_EQ(run_quell("embed " + model.text() + " /dev/null " + wrong).exit_code, 2) << wrong;
}

TEST_F(TextCommands, EveryFormatHoldsTheSameNumbers) {
  model.mean().normalize();
  const fs::path texts = file("texts.txt", "the wine\nthe view was not boring\n\n");
  const auto want = embed_lines(texts);
  const std::string command =
      "embed " + model.text() + " '" + texts.string() + "' --output '" + (scratch / "out").string();
  ASSERT_EQ(run_quell(command + ".jsonl'").exit_code, 0);
  ASSERT_EQ(run_quell(command + ".npy'").exit_code, 0);
  ASSERT_EQ(run_quell(command + ".safetensors'").exit_code, 0);

  const std::vector<std::string> lines = lines_of(read_text_file(scratch / "out.jsonl"));
  ASSERT_EQ(lines.size(), want.size());
  std::vector<float> flat;
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(Json::parse(lines[i])["embedding"].get<std::vector<float>>(), want[i]);
    flat.insert(flat.end(), want[i].begin(), want[i].end());
  }
  const SafetensorsFile tensors(scratch / "out.safetensors");
  EXPECT_EQ(tensors.at("embeddings").shape(), (Shape{3, SentenceModel::kHidden}));
  const Tensor stored = to_f32(tensors.at("embeddings"), "embeddings");
  EXPECT_TRUE(std::equal(flat.begin(), flat.end(), stored.f32().begin()));

  const std::string npy = read_text_file(scratch / "out.npy");
  const auto header = static_cast<std::size_t>(static_cast<unsigned char>(npy[8]) +
                                               256 * static_cast<unsigned char>(npy[9]));
  EXPECT_EQ(npy.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_EQ((header + 10) % 64, 0U);
  EXPECT_NE(npy.substr(10, header).find("'shape': (3, 96)"), std::string::npos);
  ASSERT_EQ(npy.size(), 10 + header + flat.size() * sizeof(float));
  EXPECT_EQ(std::memcmp(npy.data() + 10 + header, flat.data(), flat.size() * sizeof(float)), 0);
}

TEST_F(TextCommands, PromptsDimensionsAndLength) {
  model.mean().write("config_sentence_transformers.json",
                     {{"prompts", {{"query", "we think "}, {"other", "nobody said "}}},
                      {"default_prompt_name", "query"}});
  const fs::path texts = file("texts.txt", "the wine was perfect\n");
  EmbedJob none, other, written, small;
  none.prompt = "";
  other.prompt_name = "other";
  written.prompt = "nobody said ";
  small.truncate_dim = 5;
  small.normalize = true;
  EXPECT_NE(embed_lines(texts), embed_lines(texts, none));
  EXPECT_EQ(embed_lines(texts),
            embed_lines(file("b.txt", "we think the wine was perfect\n"), none));
  EXPECT_EQ(embed_lines(texts, other), embed_lines(texts, written));

  const auto cut = embed_lines(texts, small).front();
  ASSERT_EQ(cut.size(), 5U);
  double square = 0;
  for (const float v : cut) square += static_cast<double>(v) * static_cast<double>(v);
  EXPECT_NEAR(square, 1, 1e-6);
  const auto whole = embed_lines(texts).front();
  EXPECT_NEAR(cut[0] / cut[1], whole[0] / whole[1], 1e-4);
}

TEST_F(TextCommands, TextsThatAreCutAreCountedOnce) {
  model.mean();
  const fs::path texts = file("texts.txt", "the wine was perfect\nthe\nthe view was not boring\n");
  const auto result =
      run_quell("embed " + model.text() + " '" + texts.string() + "' --max-seq-length 5");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "warning: 2 of 3 texts were longer than 5 tokens and were cut\n");
  EXPECT_EQ(run_quell("embed " + model.text() + " '" + texts.string() + "'").err, "");
}

TEST_F(TextCommands, APlainEncoderTakesTheMeanAndSaysSo) {
  const fs::path texts = file("texts.txt", "the wine was perfect\n");
  const auto want = embed_lines(texts, [&] {
    model.mean();
    return EmbedJob();
  }());
  fs::remove(model.path() / "modules.json");
  fs::remove_all(model.path() / "1_Pooling");
  fs::remove(model.path() / "sentence_bert_config.json");
  EXPECT_EQ(embed_lines(texts), want);
  const auto result = run_quell("embed " + model.text() + " '" + texts.string() + "'");
  EXPECT_NE(result.err.find("no modules.json, so embeddings are the mean over tokens"),
            std::string::npos)
      << result.err;
}

TEST_F(TextCommands, ManyTextsComeInPiecesAndInOrder) {
  model.mean();
  std::string many;
  for (int i = 0; i < 9000; ++i) many += i % 3 == 0 ? "the wine was perfect\n" : "the view\n";
  const auto all = embed_lines(file("many.txt", many));
  ASSERT_EQ(all.size(), 9000U);
  for (std::size_t i = 0; i < all.size(); i += 997)
    for (std::size_t j = 0; j < all[i].size(); j += 13)
      EXPECT_NEAR(all[i][j], all[i % 3 == 0 ? 0 : 1][j], 1e-5) << i;
}

TEST_F(TextCommands, ClassifyGivesLabelsAndProbabilities) {
  const fs::path texts = file("texts.txt", "the wine was perfect\nthe case seemed messy\n");
  const auto answer = [&](const std::string& more) {
    const auto result = run_quell("classify " + model.text() + " '" + texts.string() + "' " + more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::vector<Json> out;
    for (const std::string& line : lines_of(result.out)) out.push_back(Json::parse(line));
    return out;
  };
  const std::vector<Json> best = answer("");
  ASSERT_EQ(best.size(), 2U);
  EXPECT_EQ(best[0]["label"], "positive");
  EXPECT_EQ(best[1]["label"], "negative");

  const std::vector<Json> all = answer("--top-k 0");
  ASSERT_EQ(all[0].size(), 2U);
  EXPECT_EQ(all[0][0], best[0]);
  EXPECT_GE(all[0][0]["score"], all[0][1]["score"]);
  EXPECT_NEAR(all[0][0]["score"].get<double>() + all[0][1]["score"].get<double>(), 1, 1e-6);

  // What the scores are follows problem_type, as in transformers.
  model.set("config.json", "problem_type", "regression");
  const std::vector<Json> logits = answer("--top-k 0");
  model.set("config.json", "problem_type", "multi_label_classification");
  const std::vector<Json> independent = answer("--top-k 0");
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_EQ(logits[0][k]["label"], independent[0][k]["label"]);
    const double logit = logits[0][k]["score"].get<double>();
    EXPECT_NEAR(independent[0][k]["score"].get<double>(), 1 / (1 + std::exp(-logit)), 1e-6);
  }
  const double difference =
      logits[0][0]["score"].get<double>() - logits[0][1]["score"].get<double>();
  EXPECT_NEAR(best[0]["score"].get<double>(), 1 / (1 + std::exp(-difference)), 1e-6);

  model.set("config.json", "id2label", {{"1", "good"}});
  model.set("config.json", "num_labels", 2);
  EXPECT_EQ(answer("")[0]["label"], "good");
  EXPECT_EQ(answer("")[1]["label"], "LABEL_0");
}

TEST_F(TextCommands, ClassifyReadsPairs) {
  const auto result = [&](const fs::path& path, const std::string& more) {
    return run_quell("classify " + model.text() + " '" + path.string() + "' " + more).out;
  };
  const std::string of_table =
      result(file("pairs.tsv", "a\tb\nthe wine\twas perfect\n"), "--text-column a,b");
  EXPECT_EQ(of_table, result(file("pairs.jsonl",
                                  "{\"text\": \"the wine\", \"text_pair\": \"was perfect\"}\n"),
                             ""));
  EXPECT_NE(of_table, result(file("single.txt", "the wine was perfect\n"), ""));
  EXPECT_FALSE(of_table.empty());
}

TEST_F(TextCommands, TokensAreClassifiedWithTheirPlaces) {
  // The same head, on every token.
  model.set("config.json", "architectures", {"BertForTokenClassification"});
  model.set("config.json", "id2label", {{"0", "O"}, {"1", "B-GOOD"}});
  const auto result = run_quell("classify " + model.text() + " '" +
                                file("a.txt", "the wine was perfect\n").string() + "'");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json tokens = Json::parse(result.out);
  ASSERT_TRUE(tokens.is_array());
  for (const Json& token : tokens) {
    EXPECT_EQ(token["entity"], "B-GOOD");
    const std::string text = "the wine was perfect";
    const auto begin = token["start"].get<std::size_t>(), end = token["end"].get<std::size_t>();
    EXPECT_EQ(text.substr(begin, end - begin), token["word"]);
    EXPECT_GT(token["score"], 0.5);
    EXPECT_GT(token["index"], 0);
  }
}

TEST_F(TextCommands, RerankComparesEmbeddings) {
  model.mean().write("config_sentence_transformers.json",
                     {{"prompts", {{"query", "we think "}, {"passage", "nobody said "}}}});
  const fs::path documents =
      file("texts.txt", "the view was boring\nthe wine was perfect\nthe battery seemed messy\n");
  RerankJob job;
  job.text.model_dir = model.path();
  job.text.input.file = documents;
  job.query = "the wine seemed perfect";
  std::istringstream in;

  const auto query = embed_lines(file("q.txt", "we think the wine seemed perfect\n"));
  EmbedJob passages;
  passages.prompt =
      "";  // encode_document: "document", which every model has, comes before "passage"
  const auto texts = embed_lines(documents, passages);
  const auto score = [&](const char* name, std::size_t i) {
    return similarity(*similarity_from_name(name), query.front(), texts[i]);
  };
  for (const char* name : {"cosine", "dot", "euclidean", "manhattan"}) {
    model.set("config_sentence_transformers.json", "similarity_fn_name", name);
    const auto ranked = rerank(job, in, ctx);
    ASSERT_EQ(ranked.size(), 3U);
    for (std::size_t i = 0; i < ranked.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(ranked[i].score), score(name, ranked[i].index), 1e-3) << name;
      if (i > 0) {
        EXPECT_LE(ranked[i].score, ranked[i - 1].score);
      }
    }
  }
  job.top_k = 1;
  EXPECT_EQ(rerank(job, in, ctx).size(), 1U);
}

TEST_F(TextCommands, RerankScoresPairsWithACrossEncoder) {
  // One label: the second row of the classifier.
  const SafetensorsFile old(quell::testing::kReviews / "model" / "model.safetensors");
  std::map<std::string, TensorView> tensors = old.tensors();
  const Tensor weight = to_f32(tensors.at("classifier.weight"), "w"),
               bias = to_f32(tensors.at("classifier.bias"), "b");
  const Tensor one = Tensor::from<float>(
      weight.f32().subspan(static_cast<std::size_t>(weight.cols())), {1, weight.cols()});
  const Tensor one_bias = Tensor::from<float>(bias.f32().subspan(1), {1});
  tensors["classifier.weight"] = one;
  tensors["classifier.bias"] = one_bias;
  write_safetensors(model.path() / "model.safetensors", tensors);
  model.set("config.json", "id2label", {{"0", "LABEL_0"}});
  fs::remove(model.path() / "modules.json");
  fs::remove(model.path() / "sentence_bert_config.json");

  const std::string command = "rerank " + model.text() + " --query 'the wine' '" +
                              file("texts.txt", "was messy\nwas perfect\nwas boring\n").string() +
                              "'";
  const auto scores = [&] {
    const auto result = run_quell(command);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::vector<double> out(3);
    for (const std::string& line : lines_of(result.out)) {
      const Json row = Json::parse(line);
      out[row["index"].get<std::size_t>()] = row["score"].get<double>();
    }
    return out;
  };
  const std::vector<double> usual = scores();
  model.set("config.json", "sentence_transformers",
            {{"activation_fn", "torch.nn.modules.linear.Identity"}, {"version", "4.0.0"}});
  const std::vector<double> plain = scores();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(usual[i], 1 / (1 + std::exp(-plain[i])), 1e-6);
  model.set("config.json", "sentence_transformers", {{"activation_fn", "my_code.Softer"}});
  EXPECT_NE(run_quell(command).err.find("my_code.Softer"), std::string::npos);

  const SentenceModel two(scratch / "two_labels");
  EXPECT_NE(
      run_quell("rerank " + two.text() + " --query a '" + (scratch / "texts.txt").string() + "'")
          .err.find("needs one label"),
      std::string::npos);
}

/// A quantized sentence model, and its texts as tokens.
class Vectors {
 public:
  explicit Vectors(const std::string& recipe) {
    SentenceModel made(scratch_ / "model");
    made.mean().dense(SentenceModel::kHidden, 32, "torch.nn.modules.activation.Tanh").normalize();
    QuantizeJob job;
    job.model_dir = made.path();
    job.output = scratch_ / "out";
    job.recipe = load_recipe(recipe);
    job.calibration.data.file = quell::testing::kReviews / "calibration.tsv";
    job.calibration.num_samples = 64;
    run_quantize_job(job, ctx);
    model = load_model(Checkpoint::open(job.output));

    const TextEncoder encoder(model);
    for (const char* text : {"the wine was perfect but the view seemed not boring .", "the", "",
                             "although the actor remained bright , the case seemed very superb "
                             "while the battery seemed messy .",
                             "we think nobody said the wine was not boring .", "the view",
                             "honestly the plot felt neat today"})
      sequences.push_back(encoder.encode(text).tokens);
  }

  Tensor run(const TokenBatch& batch, const std::string& engine, ExecContext& context) const {
    ForwardOutputs outputs;
    outputs.embedding_only = true;
    make_engine(engine, model, context)->forward(batch, outputs, context);
    return std::move(outputs.values.at("embedding"));
  }
  Tensor packed(const std::vector<std::size_t>& texts, const std::string& engine,
                ExecContext& context) const {
    return run(make_concatenated_batch(sequences, texts), engine, context);
  }
  Tensor padded(const std::vector<std::size_t>& texts, const std::string& engine,
                ExecContext& context) const {
    return run(make_batch(sequences, texts, model.spec.pad_token_id), engine, context);
  }

  Model model;
  std::vector<TokenSequence> sequences;
  ExecContext ctx{2};

 private:
  quell::testing::ScratchDir scratch_;
};

/// The promise of the README: integer engine, attention on codes, no float linear.
class SameVectorEverywhere : public ::testing::TestWithParam<const char*> {};

TEST_P(SameVectorEverywhere, InAnyBatchPaddedOrPackedOnAnyThreadsAndProcessor) {
  Vectors vectors(GetParam());
  ASSERT_FALSE(quantized_attentions(vectors.model.graph).empty())
      << "this recipe leaves attention in float";
  std::vector<Tensor> alone;
  for (std::size_t i = 0; i < vectors.sequences.size(); ++i)
    alone.push_back(vectors.packed({i}, "integer", vectors.ctx));
  const auto expect_same = [&](const Tensor& got, const std::vector<std::size_t>& texts,
                               const std::string& where) {
    for (std::size_t b = 0; b < texts.size(); ++b) {
      const Tensor& want = alone[texts[b]];
      const auto bytes = static_cast<std::size_t>(want.cols()) * sizeof(float);
      EXPECT_EQ(std::memcmp(got.row(static_cast<std::int64_t>(b)), want.row(0), bytes), 0)
          << where << ", text " << texts[b];
    }
  };

  const std::vector<std::vector<std::size_t>> batches = {
      {0, 1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1, 0}, {1, 3}, {2, 2, 0}, {5}};
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512Vnni, Isa::kAmx}) {
    if (!cpu_supports(isa)) continue;
    for (const int threads : {1, 3}) {
      ExecContext other(threads);
      other.isa = isa;
      const std::string where =
          std::string(isa_name(isa)) + ", " + std::to_string(threads) + " threads";
      for (const std::vector<std::size_t>& texts : batches) {
        expect_same(vectors.packed(texts, "integer", other), texts, where + ", packed");
        expect_same(vectors.padded(texts, "integer", other), texts, where + ", padded");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Recipes, SameVectorEverywhere,
                         ::testing::Values("os_plus_standard", "outlier_suppression"));

/// Elsewhere a batch's shape shows in the last bits of f32 products, and now and then moves a code
/// by one.
TEST(SameVectorElsewhere, DiffersByLittle) {
  Vectors vectors("os_plus");
  ASSERT_TRUE(quantized_attentions(vectors.model.graph).empty());
  const std::vector<std::size_t> texts = {0, 1, 2, 3, 4, 5, 6};
  for (const auto& [engine, bound] :
       {std::pair("float", 1e-6), {"integer", 2e-2}, {"simulated", 2e-2}}) {
    const Tensor packed = vectors.packed(texts, engine, vectors.ctx),
                 padded = vectors.padded(texts, engine, vectors.ctx);
    double largest = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const Tensor alone = vectors.packed({i}, engine, vectors.ctx);
      for (std::int64_t j = 0; j < alone.cols(); ++j)
        for (const Tensor* in_batch : {&packed, &padded})
          largest = std::max(
              largest,
              std::fabs(static_cast<double>(in_batch->row(static_cast<std::int64_t>(i))[j]) -
                        static_cast<double>(alone.row(0)[j])));
    }
    EXPECT_LE(largest, bound) << engine;
    RecordProperty(std::string("largest_difference_") + engine, std::to_string(largest));
  }
}

}  // namespace
}  // namespace quell
