// Small vocabularies with the settings that lie beside them, against what transformers'
// AutoTokenizer makes of them (tests/golden/tokenizer_classes.json, written by
// tests/golden/tokenizer_classes.py).
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "tests/support/support.h"

namespace quell {
namespace {

const Json& recorded() {
  static const Json all = read_json_file(std::filesystem::path(QUELL_SOURCE_DIR) /
                                         "tests/golden/tokenizer_classes.json");
  return all;
}

/// A protobuf message under construction.
class Message {
 public:
  void number(unsigned field, std::uint64_t value) {
    varint(field << 3);
    varint(value);
  }
  void text(unsigned field, const std::string& value) {
    varint(field << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }
  void real(unsigned field, float value) {
    varint(field << 3 | 5);
    char word[4];
    std::memcpy(word, &value, sizeof word);
    bytes_.append(word, sizeof word);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(std::uint64_t v) {
    for (; v >= 0x80; v >>= 7) bytes_.push_back(static_cast<char>((v & 0x7F) | 0x80));
    bytes_.push_back(static_cast<char>(v));
  }
  std::string bytes_;
};

std::string sentencepiece_bytes(const Json& model) {
  Message all;
  for (const Json& piece : model["pieces"]) {
    Message p;
    p.text(1, piece[0].get<std::string>());
    p.real(2, piece[1].get<float>());
    p.number(3, piece[2].get<std::uint64_t>());
    all.text(1, p.bytes());
  }
  const auto id = [&](const char* key) {
    return static_cast<std::uint64_t>(model[key].get<std::int64_t>());
  };
  Message trainer;
  trainer.number(3, model["unigram"].get<bool>() ? 1 : 2);
  trainer.number(35, model["byte_fallback"].get<bool>() ? 1 : 0);
  trainer.number(40, id("unk_id"));
  trainer.number(41, id("bos_id"));
  trainer.number(42, id("eos_id"));
  all.text(2, trainer.bytes());

  Message normalizer;
  normalizer.number(3, model["add_dummy_prefix"].get<bool>() ? 1 : 0);
  normalizer.number(4, model["remove_extra_whitespaces"].get<bool>() ? 1 : 0);
  all.text(3, normalizer.bytes());
  return all.bytes();
}

void write_files(const Json& test, const std::filesystem::path& dir) {
  const auto write = [&](const std::string& name, const Json& content) {
    write_text_file(dir / name, content.is_string() ? content.get<std::string>() : content.dump());
  };
  if (const std::string vocabulary = test["vocabulary"]; !vocabulary.empty()) {
    const Json& content = recorded()["vocabularies"][vocabulary];
    if (const std::string file = test["model_file"]; !file.empty())
      write(file, Json(sentencepiece_bytes(content)));
    else
      for (const auto& [name, text] : content.items()) write(name, text);
  }
  for (const auto& [name, content] : test["files"].items()) write(name, content);
}

class TokenizerClass : public ::testing::TestWithParam<std::size_t> {};

TEST_P(TokenizerClass, EqualsAutoTokenizer) {
  const Json& test = recorded()["cases"][GetParam()];
  const quell::testing::ScratchDir scratch;
  write_files(test, scratch.path());
  const Tokenizer tokenizer = Tokenizer::open(scratch.path());

  for (const Json& row : test["texts"]) {
    const auto ids = row["ids"].get<std::vector<std::int32_t>>();
    EXPECT_EQ(tokenizer.encode(row["text"].get<std::string>()).ids, ids) << row["text"];
    EXPECT_EQ(tokenizer.decode(ids), row["decoded"].get<std::string>()) << row["text"];
  }
  const Encoding pair = tokenizer.encode_pair("hello", "world 12");
  EXPECT_EQ(pair.ids, test["pair"]["ids"].get<std::vector<std::int32_t>>());
  EXPECT_EQ(pair.type_ids, test["pair"]["type_ids"].get<std::vector<std::int32_t>>());
}

INSTANTIATE_TEST_SUITE_P(
    All, TokenizerClass, ::testing::Range(std::size_t{0}, recorded()["cases"].size()),
    [](const auto& info) {
      return recorded()["cases"][info.param]["name"].template get<std::string>();
    });

}  // namespace
}  // namespace quell
