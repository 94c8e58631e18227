// Trains the model that ships with the project (examples/reviews): generated reviews, a small BERT,
// AdamW.
//   quell_train_classifier OUT_DIR [--outlier-gain 8] [--steps 4000] [--seed 1] [--dropout 0]
// Writes config.json, model.safetensors, vocab.txt, tokenizer_config.json; with --data also
// calibration.tsv and eval.tsv.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/safetensors.h"
#include "quell/io/settings.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/train/sentence_generator.h"
#include "quell/train/torch_model.h"

namespace quell::train {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kBatch = 64;
constexpr std::int64_t kMaxLength = 64;
constexpr double kInitStd = 0.05;
constexpr std::size_t kOutlierChannels[] = {7, 31, 70};
constexpr std::uint64_t kEvalSeed = 20260101, kCalibrationSeed = 20260102;

void write_tokenizer(const fs::path& dir) {
  std::string vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (const std::string& word : lexicon()) vocab += word + "\n";
  write_text_file(dir / "vocab.txt", vocab);
  const Json config = {{"tokenizer_class", "BertTokenizer"},
                       {"do_lower_case", true},
                       {"unk_token", "[UNK]"},
                       {"sep_token", "[SEP]"},
                       {"pad_token", "[PAD]"},
                       {"cls_token", "[CLS]"},
                       {"mask_token", "[MASK]"},
                       {"model_max_length", kMaxLength}};
  write_text_file(dir / "tokenizer_config.json", config.dump(2) + "\n");
}

void write_rows(const fs::path& file, std::uint64_t seed, int rows) {
  Random random(seed);
  std::string text = "sentence\tlabel\n";
  for (int i = 0; i < rows; ++i) {
    const LabelledSentence s = generate_sentence(random);
    text += s.text + "\t" + std::to_string(s.label) + "\n";
  }
  write_text_file(file, text);
}

TokenBatch make_sentences(const Tokenizer& tokenizer, Random& random, std::int64_t count,
                          std::vector<std::int64_t>& labels) {
  std::vector<TokenSequence> sequences;
  labels.clear();
  for (std::int64_t i = 0; i < count; ++i) {
    const LabelledSentence s = generate_sentence(random);
    Encoding e = tokenizer.encode(s.text);
    sequences.push_back({std::move(e.ids), std::move(e.type_ids), {}});
    labels.push_back(s.label);
  }
  return make_batches(sequences, static_cast<std::size_t>(count), 0).front();
}

/// As transformers' BertForSequenceClassification is configured.
Json model_config(std::int64_t vocab_size) {
  return {{"architectures", {"BertForSequenceClassification"}},
          {"model_type", "bert"},
          {"vocab_size", vocab_size},
          {"hidden_size", 96},
          {"intermediate_size", 384},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 4},
          {"max_position_embeddings", kMaxLength},
          {"type_vocab_size", 2},
          {"hidden_act", "gelu"},
          {"layer_norm_eps", 1e-12},
          {"pad_token_id", 0},
          {"torch_dtype", "float32"},
          {"id2label", {{"0", "negative"}, {"1", "positive"}}},
          {"label2id", {{"negative", 0}, {"positive", 1}}}};
}

/// Matrices from a normal distribution, norms of ones, biases of zeros. `outlier_gain` > 1 starts
/// three channels of every norm but the last with that gamma and an offset of the same size:
/// training then keeps outlier channels, as large language models have them.
void randomize(Model& model, double outlier_gain) {
  std::vector<Param*> norms;
  for (Param& p : model.params) {
    if (p.weight.shape().rank() == 1) {
      std::fill(p.weight.f32().begin(), p.weight.f32().end(), 1.0F);
      norms.push_back(&p);
      continue;
    }
    const torch::Tensor values = torch::randn(p.weight.numel()) * kInitStd;
    std::copy_n(values.data_ptr<float>(), values.numel(), p.weight.f32().data());
  }

  if (outlier_gain <= 1) return;
  norms.pop_back();
  const auto gain = static_cast<float>(outlier_gain);
  for (Param* norm : norms)
    for (const std::size_t channel : kOutlierChannels) {
      norm->weight.f32()[channel] = gain;
      norm->bias.f32()[channel] = channel % 2 == 1 ? -gain : gain;
    }
}

/// config.json and model.safetensors.
void save(const Model& model, const Json& config, const fs::path& dir) {
  std::map<std::string, TensorView> tensors;
  for (const Param& p : model.params) {
    tensors.emplace(p.weight_name, p.weight);
    if (p.bias.defined()) tensors.emplace(p.bias_name, p.bias);
  }
  write_safetensors(dir / "model.safetensors", tensors, {{"format", "pt"}});
  write_text_file(dir / "config.json", config.dump(2) + "\n");
}

double accuracy(const TorchModel& model, const Tokenizer& tokenizer, std::uint64_t seed,
                std::int64_t rows) {
  const torch::NoGradGuard guard;
  Random random(seed);
  std::vector<std::int64_t> labels;
  const TokenBatch batch = make_sentences(tokenizer, random, rows, labels);
  const torch::Tensor predicted = model.forward(batch).values.at("logits").argmax(1);
  return 100 * predicted.eq(torch::tensor(labels)).to(torch::kFloat64).mean().item<double>();
}

/// Of the command.
struct TrainingSettings {
  double outlier_gain = 1;
  double learning_rate = 1e-3;
  double dropout = 0;
  std::int64_t steps = 4000;
  std::uint64_t seed = 1;
};

void train(const fs::path& out, const TrainingSettings& settings) {
  torch::manual_seed(settings.seed);
  fs::create_directories(out);
  write_tokenizer(out);
  const Tokenizer tokenizer = Tokenizer::open(out);

  const Json config = model_config(tokenizer.vocab_size());
  Model model = make_zero_model(build_architecture(Settings(config)));
  randomize(model, settings.outlier_gain);
  TorchModel trained(model);
  trained.set_dropout(dropout_points(
      model.graph,
      {.hidden = settings.dropout, .attention = settings.dropout, .head = settings.dropout}));
  const std::vector<torch::Tensor> parameters = trained.trained_tensors();
  torch::optim::AdamW optimizer(
      parameters, torch::optim::AdamWOptions(settings.learning_rate).weight_decay(0.0));

  Random random(settings.seed);
  std::vector<std::int64_t> labels;
  for (std::int64_t step = 0; step < settings.steps; ++step) {
    const double warm = std::min(1.0, static_cast<double>(step + 1) / 200);
    const double left = 1 - static_cast<double>(step) / static_cast<double>(settings.steps);
    static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[0].options())
        .lr(settings.learning_rate * warm * left);

    const TokenBatch batch = make_sentences(tokenizer, random, kBatch, labels);
    const TorchOutputs outputs = trained.forward(batch, {}, DropoutDraw{settings.seed, step});
    const torch::Tensor loss =
        torch::nn::functional::cross_entropy(outputs.values.at("logits"), torch::tensor(labels));
    optimizer.zero_grad();
    loss.backward();
    torch::nn::utils::clip_grad_norm_(parameters, 1.0);
    optimizer.step();
    if (step % 250 == 0 || step + 1 == settings.steps)
      std::fprintf(stderr, "step %lld loss %.4f accuracy %.2f\n", static_cast<long long>(step),
                   loss.item<double>(), accuracy(trained, tokenizer, kEvalSeed, 1000));
  }
  trained.parameters().write_to(model);
  save(model, config, out);
}

}  // namespace
}  // namespace quell::train

int main(int argc, char** argv) {
  CLI::App app{"Trains the classifier that ships with Quell"};
  std::string out, data;
  quell::train::TrainingSettings settings;
  app.add_option("out", out, "Directory to write")->required();
  app.add_option("--outlier-gain", settings.outlier_gain,
                 "Initial gamma of the outlier channels; 1: none");
  app.add_option("--steps", settings.steps);
  app.add_option("--seed", settings.seed);
  app.add_option("--learning-rate", settings.learning_rate);
  app.add_option("--dropout", settings.dropout, "Rate of all dropout points");
  app.add_option("--data", data, "Write calibration.tsv and eval.tsv here");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!data.empty()) {
      std::filesystem::create_directories(data);
      quell::train::write_rows(std::filesystem::path(data) / "calibration.tsv",
                               quell::train::kCalibrationSeed, 256);
      quell::train::write_rows(std::filesystem::path(data) / "eval.tsv", quell::train::kEvalSeed,
                               2000);
    }
    quell::train::train(out, settings);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quell_train_classifier: %s\n", e.what());
    return 1;
  }
  return 0;
}
