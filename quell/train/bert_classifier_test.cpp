// The trainer's forward pass against Quell's, on the models that ship with the project.
#include "quell/train/bert_classifier.h"

#include <gtest/gtest.h>

#include <sstream>

#include "quell/engine/engines.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/train/sentence_generator.h"

namespace quell::train {
namespace {

class Shipped : public ::testing::TestWithParam<const char*> {};

TEST_P(Shipped, TorchAndQuellAgree) {
  const std::filesystem::path dir =
      std::filesystem::path(QUELL_SOURCE_DIR) / "examples/reviews" / GetParam();
  const Model model = load_model(Checkpoint::open(dir));
  const Tokenizer tokenizer = Tokenizer::open(dir);
  Random random(5);
  std::vector<TokenSequence> sequences;
  for (int i = 0; i < 32; ++i) {
    Encoding e = tokenizer.encode(generate_sentence(random).text);
    sequences.push_back({std::move(e.ids), std::move(e.type_ids), {}});
  }
  const TokenBatch batch = make_batches(sequences, sequences.size(), 0).front();
  ExecContext ctx(2);
  ForwardOutputs outputs;
  make_float_model(model)->forward(batch, outputs, ctx);
  const torch::NoGradGuard guard;
  const torch::Tensor want = BertClassifier::load(dir).forward(batch, 0, false).contiguous();
  const Tensor& got = outputs.values.at("logits");
  ASSERT_EQ(want.numel(), got.numel());
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const float a = got.f32()[static_cast<std::size_t>(i)], b = want.data_ptr<float>()[i];
    EXPECT_NEAR(a, b, 1e-4F * (1 + std::abs(b)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Shipped, ::testing::Values("model", "model-plain"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(SentenceGenerator, EveryWordIsInTheLexiconAndBothLabelsOccur) {
  std::vector<std::string> words = lexicon();
  Random random(7);
  int positive = 0;
  for (int i = 0; i < 2000; ++i) {
    const LabelledSentence s = generate_sentence(random);
    positive += s.label;
    std::istringstream in(s.text);
    for (std::string word; in >> word;)
      EXPECT_TRUE(std::count(words.begin(), words.end(), word)) << word;
  }
  EXPECT_GT(positive, 800);
  EXPECT_LT(positive, 1200);
}

}  // namespace
}  // namespace quell::train
