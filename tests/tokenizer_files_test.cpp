// What is read of the files of a tokenizer, refused and warned about.
#include <gtest/gtest.h>

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/text/tokenizer/unicode.h"
#include "tests/support/support.h"

namespace quell {
namespace {

constexpr const char* kVocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n[\n]\nent\n";

class TokenizerFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_sink([this](LogLevel level, const std::string& message) {
      if (level == LogLevel::kWarning) warnings_.push_back(message);
    });
    write("vocab.txt", Json(kVocabulary));
    write("config.json", {{"model_type", "bert"}});
  }
  void TearDown() override { set_log_sink({}); }

  void write(const std::string& name, const Json& content) const {
    write_text_file(dir_ / name, content.is_string() ? content.get<std::string>() : content.dump());
  }
  void remove(const std::string& name) const { std::filesystem::remove(dir_ / name); }
  Tokenizer open() const { return Tokenizer::open(dir_.path()); }
  std::vector<std::int32_t> ids(const std::string& text) const { return open().encode(text).ids; }

  /// The message with which opening fails.
  std::string refusal() const {
    try {
      open();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  bool warned_of(const std::string& text) const {
    return std::any_of(warnings_.begin(), warnings_.end(), [&](const std::string& warning) {
      return warning.find(text) != std::string::npos;
    });
  }
  static Json tokenizer_json() {
    Json vocab = Json::object();
    int id = 0;
    for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"})
      vocab[token] = id++;
    return {{"version", "1.0"},
            {"added_tokens", Json::array()},
            {"normalizer", {{"type", "BertNormalizer"}}},
            {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
            {"model", {{"type", "WordPiece"}, {"vocab", vocab}, {"unk_token", "[UNK]"}}},
            {"decoder", {{"type", "WordPiece"}}}};
  }

  quell::testing::ScratchDir dir_;
  std::vector<std::string> warnings_;
};

TEST_F(TokenizerFiles, ClassesWithoutRulesAreRefusedByName) {
  for (const char* name : {"QuuxTokenizer", "QuuxTokenizerFast", "MarianTokenizer",
                           "PreTrainedTokenizerFast", "BloomTokenizerFast"}) {
    write("tokenizer_config.json", {{"tokenizer_class", name}});
    EXPECT_NE(refusal().find("tokenizer_class \"" + std::string(name) +
                             "\" is not supported without tokenizer.json"),
              std::string::npos)
        << refusal();
  }
  write("tokenizer_config.json", {{"tokenizer_class", "QuuxTokenizer"},
                                  {"auto_map", {{"AutoTokenizer", {"quux.Quux", nullptr}}}}});
  EXPECT_NE(refusal().find("QuuxTokenizer"), std::string::npos);

  write("tokenizer.json", tokenizer_json());
  EXPECT_EQ(ids("hello world"), (std::vector<std::int32_t>{5, 6}));
}

TEST_F(TokenizerFiles, ModelTypesWhoseClassReadsAnotherFileAreRefused) {
  write("config.json", {{"model_type", "albert"}});
  EXPECT_NE(refusal().find("AlbertTokenizer reads spiece.model"), std::string::npos) << refusal();
  write("config.json", {{"model_type", "marian"}});
  EXPECT_NE(refusal().find("model_type \"marian\" is not supported without tokenizer.json"),
            std::string::npos)
      << refusal();
}

TEST_F(TokenizerFiles, JapaneseWordTokenizersAreRefusedByName) {
  for (const char* words : {"mecab", "sudachi", "jumanpp"}) {
    write("tokenizer_config.json",
          {{"tokenizer_class", "BertJapaneseTokenizer"}, {"word_tokenizer_type", words}});
    EXPECT_NE(refusal().find("word_tokenizer_type \"" + std::string(words) + "\""),
              std::string::npos)
        << refusal();
  }
}

TEST_F(TokenizerFiles, UnknownKeysAreWarnedAbout) {
  write("tokenizer_config.json", {{"tokenizer_class", "BertTokenizer"}, {"quux_setting", 1}});
  write("special_tokens_map.json", {{"cls_token", "[CLS]"}, {"quux_map", 2}});
  open();
  EXPECT_TRUE(warned_of("tokenizer_config.json: key \"quux_setting\""));
  EXPECT_TRUE(warned_of("special_tokens_map.json: key \"quux_map\""));
  EXPECT_EQ(warnings_.size(), 2U);

  Json json = tokenizer_json();
  json["quux_top"] = 3;
  json["normalizer"]["quux_normalizer"] = true;
  json["model"]["quux_model"] = "x";
  json["added_tokens"] = {{{"id", 4}, {"content", "[MASK]"}, {"special", true}, {"quux_token", 4}}};
  write("tokenizer.json", json);
  write("tokenizer_config.json", {{"tokenizer_class", "PreTrainedTokenizerFast"}});
  open();
  for (const char* key : {"quux_top", "normalizer.quux_normalizer", "model.quux_model"})
    EXPECT_TRUE(warned_of("tokenizer.json: key \"" + std::string(key) + "\"")) << key;

  // The same where the class builds the tokenizer anew.
  warnings_.clear();
  json["decoder"]["quux_decoder"] = 1;
  write("tokenizer.json", json);
  write("tokenizer_config.json", {{"tokenizer_class", "BertTokenizer"}});
  open();
  EXPECT_TRUE(warned_of("tokenizer.json: key \"decoder.quux_decoder\""));
}

TEST_F(TokenizerFiles, UnknownComponentsAreRefusedByName) {
  for (const char* stage : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    Json json = tokenizer_json();
    json[stage] = {{"type", "Quux"}};
    write("tokenizer.json", json);
    EXPECT_NE(refusal().find(std::string(stage) + " \"Quux\" is not supported"), std::string::npos)
        << refusal();
  }
  Json json = tokenizer_json();
  json["normalizer"] = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}, {"Quux", "b"}}}, {"content", "c"}};
  write("tokenizer.json", json);
  EXPECT_NE(refusal().find("and nothing else"), std::string::npos) << refusal();
}

TEST_F(TokenizerFiles, BrokenValuesAreRefusedWithTheirFile) {
  write("added_tokens.json", {{"[ENT]", "ten"}});
  EXPECT_NE(refusal().find("[ENT]"), std::string::npos) << refusal();
  remove("added_tokens.json");

  write("tokenizer_config.json", {{"added_tokens_decoder", {{"x", {{"content", "[ENT]"}}}}}});
  EXPECT_NE(refusal().find("\"x\" is not a token id"), std::string::npos) << refusal();
  write("tokenizer_config.json", {{"cls_token", 5}});
  EXPECT_NE(refusal().find("cls_token"), std::string::npos) << refusal();
  write("tokenizer_config.json", {{"padding_side", "top"}});
  EXPECT_NE(refusal().find("padding_side"), std::string::npos) << refusal();
  write("tokenizer_config.json", {{"fast_tokenizer_files", {"tokenizer.4.0.json"}}});
  EXPECT_NE(refusal().find("fast_tokenizer_files"), std::string::npos) << refusal();

  write("tokenizer_config.json", {{"tokenizer_class", "GPT2Tokenizer"}});
  write("vocab.json", {{"a", "one"}});
  write("merges.txt", Json("#version: 0.2\n"));
  EXPECT_NE(refusal().find("vocab.json"), std::string::npos) << refusal();
}

TEST_F(TokenizerFiles, IdsThatTransformersGivesAreGivenAndTold) {
  write("added_tokens.json", {{"[ENT]", 10}, {"<far>", 40}});
  const Tokenizer t = open();
  EXPECT_EQ(t.id_of("[ENT]"), 10);
  EXPECT_EQ(t.id_of("<far>"), 11);
  EXPECT_TRUE(warned_of("\"<far>\" is stated as 40"));
  EXPECT_EQ(t.encode("hello [ENT] <far>").ids, (std::vector<std::int32_t>{2, 5, 10, 11, 3}));
}

TEST_F(TokenizerFiles, OlderFilesBesideNewerOnesAreNotPassedOverInSilence) {
  write("tokenizer_config.json", {{"added_tokens_decoder", {{"10", {{"content", "[ENT]"}}}}}});
  write("added_tokens.json", {{"<old>", 10}});
  write("special_tokens_map.json", {{"cls_token", "<other>"}});
  const Tokenizer t = open();
  EXPECT_FALSE(t.id_of("<old>").has_value());
  EXPECT_TRUE(warned_of("\"<old>\" is not used"));
  EXPECT_TRUE(warned_of("cls_token \"<other>\" is not used"));
}

TEST_F(TokenizerFiles, StagesThatTheClassReplacesAreTold) {
  Json json = tokenizer_json();
  json["normalizer"]["lowercase"] = false;
  json["pre_tokenizer"] = {{"type", "Whitespace"}};
  write("tokenizer.json", json);
  write("tokenizer_config.json", {{"tokenizer_class", "BertTokenizer"}});
  EXPECT_EQ(ids("HELLO"), (std::vector<std::int32_t>{2, 5, 3}));
  EXPECT_TRUE(warned_of("normalizer.lowercase differs"));
  EXPECT_TRUE(warned_of("pre_tokenizer differs"));
}

TEST_F(TokenizerFiles, SettingsForCallersComeFromTheFiles) {
  write("tokenizer_config.json",
        {{"padding_side", "left"}, {"truncation_side", "left"}, {"model_max_length", 128}});
  const TokenizerDefaults defaults = open().defaults();
  EXPECT_TRUE(defaults.pad_left);
  EXPECT_TRUE(defaults.truncate_left);
  EXPECT_EQ(defaults.model_max_length, 128);

  write("tokenizer_config.json", {{"model_max_length", 1e30}});
  EXPECT_FALSE(open().defaults().model_max_length.has_value());
}

TEST_F(TokenizerFiles, WithoutAnyClassTheFilesDecide) {
  remove("config.json");
  EXPECT_EQ(ids("hello"), (std::vector<std::int32_t>{2, 5, 3}));
}

/// The reference takes its characters from several versions of Unicode; none of them is that of
/// this machine's libraries.
TEST(UnicodeOfTheReference, DoesNotFollowTheMachine) {
  using unicode::is;
  EXPECT_FALSE(is(0x61D, unicode::kPunctuation));     // assigned in Unicode 14
  EXPECT_TRUE(is(0x166D, unicode::kPunctuation));     // punctuation then, a symbol now
  EXPECT_FALSE(is(0x7FD, unicode::kNonspacingMark));  // Unicode 11
  EXPECT_FALSE(is(0x13430, unicode::kOther));         // Unicode 12
  EXPECT_TRUE(is(0x11DE0, unicode::kNumeric));        // Unicode 17
  EXPECT_FALSE(is(0x11DE0, unicode::kNumber));
  EXPECT_TRUE(is(0x1E5D0, unicode::kLetter));  // Unicode 16
  EXPECT_TRUE(is(0x200D, unicode::kWord));
  EXPECT_FALSE(is(0xB2, unicode::kWord));

  std::u32string lower;
  for (const char32_t c : {U'\u0130', U'\u1C89', U'\u03A3', U'\U00010D50'})
    unicode::append_lowercase(lower, c);
  EXPECT_EQ(lower, U"i\u0307\u1C8A\u03C3\U00010D70");

  const auto normal = [](char32_t c) {
    return unicode::normalize(std::u32string(1, c), unicode::Form::kNfkc)[0].c;
  };
  EXPECT_EQ(normal(0x32FF), char32_t{0x32FF});    // Unicode 12.1
  EXPECT_EQ(normal(0x1F16C), char32_t{0x1F16C});  // Unicode 12.0
  EXPECT_EQ(normal(0xFB01), U'f');
}

TEST(GraphemeClusters, JoinMarksSyllablesAndLineBreaks) {
  EXPECT_EQ(unicode::grapheme_ends(U"a\u0301b"), (std::vector<std::size_t>{2, 3}));
  EXPECT_EQ(unicode::grapheme_ends(U"\r\n\n"), (std::vector<std::size_t>{2, 3}));
  EXPECT_EQ(unicode::grapheme_ends(U"\u1100\u1161\u11a8a"), (std::vector<std::size_t>{3, 4}));
  EXPECT_EQ(unicode::grapheme_ends(U"\n\u0301"), (std::vector<std::size_t>{1, 2}));
  EXPECT_EQ(unicode::grapheme_ends(U"\u0600a"), (std::vector<std::size_t>{2}));
  EXPECT_TRUE(unicode::grapheme_ends(U"").empty());
}

}  // namespace
}  // namespace quell
