// Trains the model that ships with the project (examples/reviews): generated reviews, a small BERT,
// AdamW.
//   quell_train_classifier OUT_DIR [--outlier-gain 8] [--steps 4000] [--seed 1]
// Writes config.json, model.safetensors, vocab.txt, tokenizer_config.json; with --data also
// calibration.tsv and eval.tsv.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/train/bert_classifier.h"
#include "quell/train/sentence_generator.h"

namespace quell::train {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kBatch = 64;
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
                       {"model_max_length", 64}};
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

double accuracy(const BertClassifier& model, const Tokenizer& tokenizer, std::uint64_t seed,
                std::int64_t rows) {
  const torch::NoGradGuard guard;
  Random random(seed);
  std::vector<std::int64_t> labels;
  const TokenBatch batch = make_sentences(tokenizer, random, rows, labels);
  const torch::Tensor predicted = model.forward(batch, 0, false).argmax(1);
  return 100 * predicted.eq(torch::tensor(labels)).to(torch::kFloat64).mean().item<double>();
}

void train(const fs::path& out, double outlier_gain, std::int64_t steps, std::uint64_t seed,
           double learning_rate) {
  torch::manual_seed(seed);
  fs::create_directories(out);
  write_tokenizer(out);
  const Tokenizer tokenizer = Tokenizer::open(out);
  BertConfig config;
  config.vocab_size = tokenizer.vocab_size();
  const BertClassifier model(config, outlier_gain);
  torch::optim::AdamW optimizer(model.parameters(),
                                torch::optim::AdamWOptions(learning_rate).weight_decay(0.0));
  Random random(seed);
  std::vector<std::int64_t> labels;
  for (std::int64_t step = 0; step < steps; ++step) {
    const double warm = std::min(1.0, static_cast<double>(step + 1) / 200),
                 left = 1 - static_cast<double>(step) / static_cast<double>(steps);
    static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[0].options())
        .lr(learning_rate * warm * left);
    const TokenBatch batch = make_sentences(tokenizer, random, kBatch, labels);
    const torch::Tensor loss = torch::nn::functional::cross_entropy(model.forward(batch, 0.0, true),
                                                                    torch::tensor(labels));
    optimizer.zero_grad();
    loss.backward();
    torch::nn::utils::clip_grad_norm_(model.parameters(), 1.0);
    optimizer.step();
    if (step % 250 == 0 || step + 1 == steps)
      std::fprintf(stderr, "step %lld loss %.4f accuracy %.2f\n", static_cast<long long>(step),
                   loss.item<double>(), accuracy(model, tokenizer, kEvalSeed, 1000));
  }
  model.save(out);
}

}  // namespace
}  // namespace quell::train

int main(int argc, char** argv) {
  CLI::App app{"Trains the classifier that ships with Quell"};
  std::string out, data;
  double outlier_gain = 1, learning_rate = 1e-3;
  std::int64_t steps = 4000;
  std::uint64_t seed = 1;
  app.add_option("out", out, "Directory to write")->required();
  app.add_option("--outlier-gain", outlier_gain, "Initial gamma of the outlier channels; 1: none");
  app.add_option("--steps", steps);
  app.add_option("--seed", seed);
  app.add_option("--learning-rate", learning_rate);
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
    quell::train::train(out, outlier_gain, steps, seed, learning_rate);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quell_train_classifier: %s\n", e.what());
    return 1;
  }
  return 0;
}
