// Which rules read a directory, and what of its files decides them. What is expected here is what
// transformers 5.24 gives for the same files.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {
namespace {
namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

constexpr const char* kPieces[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
                                   "hello", "world", "Hello", "a",     "##b"};

class OpeningTokenizers : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    dir_ = fs::temp_directory_path() / ("quell-" + test + "-" + std::to_string(::getpid()));
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    set_log_sink([this](LogLevel level, const std::string& message) {
      if (level == LogLevel::kWarning) warnings_.push_back(message);
    });
  }
  void TearDown() override {
    set_log_sink({});
    fs::remove_all(dir_);
  }

  void write(const std::string& name, const std::string& text) const {
    write_text_file(dir_ / name, text);
  }
  void write_json(const std::string& name, const Json& json) const { write(name, json.dump()); }
  void write_vocab_txt() const {
    std::string lines;
    for (const char* piece : kPieces) lines += std::string(piece) + "\n";
    write("vocab.txt", lines);
  }
  /// BERT's stages, which leave case alone, without a post processor.
  static Json cased_json() {
    Json vocab = Json::object();
    int id = 0;
    for (const char* piece : kPieces) vocab[piece] = id++;
    return {{"added_tokens", Json::array()},
            {"normalizer", {{"type", "BertNormalizer"}, {"lowercase", false}}},
            {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
            {"model", {{"type", "WordPiece"}, {"vocab", vocab}, {"unk_token", "[UNK]"}}}};
  }

  Ids ids(const std::string& text, std::vector<std::string> accepted = {}) const {
    return Tokenizer::open(ModelDirectory(dir_, std::move(accepted))).encode(text).ids;
  }
  /// The message with which opening fails.
  std::string refusal() const {
    try {
      Tokenizer::open(ModelDirectory(dir_));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  bool warned_of(const std::string& text) const {
    return std::any_of(warnings_.begin(), warnings_.end(),
                       [&](const std::string& w) { return w.find(text) != std::string::npos; });
  }

  fs::path dir_;
  std::vector<std::string> warnings_;
};

TEST_F(OpeningTokenizers, FormerClassesLeaveTokenizerJsonAsItIs) {
  write_vocab_txt();
  for (const char* name : {"NomicBertTokenizer", "RetriBertTokenizerFast", "RealmTokenizer",
                           "OPTTokenizer", "MT5TokenizerFast"}) {
    write_json("tokenizer.json", cased_json());
    write_json("tokenizer_config.json", {{"tokenizer_class", name}});
    EXPECT_EQ(ids("Hello world"), (Ids{7, 6})) << name;
  }
  EXPECT_TRUE(warnings_.empty()) << warnings_.front();

  // Without the file their rules are those of the class that took their place.
  fs::remove(dir_ / "tokenizer.json");
  write_json("tokenizer_config.json", {{"tokenizer_class", "NomicBertTokenizer"}});
  EXPECT_EQ(ids("Hello world"), (Ids{2, 5, 6, 3}));
  // Those of today build anew in any case.
  write_json("tokenizer.json", cased_json());
  write_json("tokenizer_config.json", {{"tokenizer_class", "ElectraTokenizer"}});
  EXPECT_EQ(ids("Hello world"), (Ids{2, 5, 6, 3}));
  EXPECT_TRUE(warned_of("like transformers, Quell follows the class"));
}

TEST_F(OpeningTokenizers, ClassesWhoseRulesAreNotHereAreTold) {
  write_json("tokenizer.json", cased_json());
  for (const char* name : {"SplinterTokenizer", "RemBertTokenizerFast", "WhisperTokenizer",
                           "XLMTokenizer", "FNetTokenizer"}) {
    warnings_.clear();
    write_json("tokenizer_config.json", {{"tokenizer_class", name}});
    EXPECT_EQ(ids("Hello world"), (Ids{7, 6}));
    EXPECT_TRUE(warned_of("tokenizer_config.json: tokenizer_class \"" + std::string(name) +
                          "\": transformers builds this"))
        << name;
    EXPECT_EQ(warnings_.size(), 1U) << name;
  }

  warnings_.clear();
  for (const char* name : {"PreTrainedTokenizerFast", "TokenizersBackend", "QuuxTokenizer"}) {
    write_json("tokenizer_config.json",
               {{"tokenizer_class", name}, {"add_prefix_space", true}, {"do_lower_case", true}});
    EXPECT_EQ(ids("Hello world"), (Ids{7, 6}));
  }
  EXPECT_TRUE(warnings_.empty()) << warnings_.front();

  // The class may follow from config.json alone.
  fs::remove(dir_ / "tokenizer_config.json");
  write_json("config.json", {{"model_type", "splinter"}});
  EXPECT_EQ(ids("Hello world"), (Ids{7, 6}));
  EXPECT_TRUE(warned_of("config.json: model_type \"splinter\": transformers builds this"));
}

TEST_F(OpeningTokenizers, SettingsThatSuchAClassAppliesOverTheFileAreRefused) {
  write_json("tokenizer.json", cased_json());
  write_json("tokenizer_config.json",
             {{"tokenizer_class", "SplinterTokenizer"}, {"do_lower_case", true}});
  EXPECT_NE(refusal().find("tokenizer_config.json: key \"do_lower_case\" (true): "),
            std::string::npos)
      << refusal();
  EXPECT_NE(refusal().find("SplinterTokenizer"), std::string::npos) << refusal();
  EXPECT_NE(refusal().find("--accept do_lower_case"), std::string::npos) << refusal();
  EXPECT_EQ(ids("Hello world", {"do_lower_case"}), (Ids{7, 6}));

  // What the file says too, or null, changes nothing.
  write_json("tokenizer_config.json", {{"tokenizer_class", "SplinterTokenizer"},
                                       {"do_lower_case", false},
                                       {"strip_accents", nullptr},
                                       {"tokenize_chinese_chars", true}});
  EXPECT_EQ(refusal(), "");
  write_json("tokenizer_config.json",
             {{"tokenizer_class", "SplinterTokenizer"}, {"strip_accents", true}});
  EXPECT_NE(refusal().find("strip_accents"), std::string::npos) << refusal();
  write_json("tokenizer_config.json",
             {{"tokenizer_class", "SplinterTokenizer"}, {"tokenize_chinese_chars", false}});
  EXPECT_NE(refusal().find("tokenize_chinese_chars"), std::string::npos) << refusal();

  for (const bool prefix : {false, true})
    for (const bool metaspace : {false, true}) {
      Json json = cased_json();
      if (metaspace)
        json["pre_tokenizer"] = {{"type", "Metaspace"},
                                 {"replacement", "_"},
                                 {"prepend_scheme", prefix ? "first" : "never"}};
      else
        json["pre_tokenizer"] = {
            {"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"use_regex", true}}}}};
      write_json("tokenizer.json", json);
      write_json("tokenizer_config.json",
                 {{"tokenizer_class", "CohereTokenizer"}, {"add_prefix_space", prefix}});
      EXPECT_EQ(refusal(), "");
      write_json("tokenizer_config.json",
                 {{"tokenizer_class", "CohereTokenizer"}, {"add_prefix_space", !prefix}});
      EXPECT_NE(refusal().find("key \"add_prefix_space\""), std::string::npos) << refusal();
    }

  // The language that the file writes behind each text.
  Json json = cased_json();
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
        {{"SpecialToken", {{"id", "a"}, {"type_id", 0}}}}}},
      {"pair",
       {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}}},
      {"special_tokens", {{"a", {{"id", "a"}, {"ids", {8}}, {"tokens", {"a"}}}}}}};
  write_json("tokenizer.json", json);
  write_json("tokenizer_config.json", {{"tokenizer_class", "NllbTokenizer"}, {"src_lang", "a"}});
  EXPECT_EQ(refusal(), "");
  write_json("tokenizer_config.json",
             {{"tokenizer_class", "NllbTokenizer"}, {"src_lang", "fra_Latn"}});
  EXPECT_NE(refusal().find("src_lang"), std::string::npos) << refusal();
}

TEST_F(OpeningTokenizers, TokenizersOfDprLowerCaseWhateverIsStated) {
  write_vocab_txt();
  for (const char* name :
       {"DPRQuestionEncoderTokenizer", "DPRContextEncoderTokenizerFast", "DPRReaderTokenizer"}) {
    write_json("tokenizer_config.json", {{"tokenizer_class", name}, {"do_lower_case", false}});
    EXPECT_EQ(ids("Hello world"), (Ids{2, 5, 6, 3})) << name;
  }
  EXPECT_TRUE(warned_of("tokenizer_config.json: do_lower_case false has no effect"));
  write_json("tokenizer_config.json",
             {{"tokenizer_class", "BertTokenizer"}, {"do_lower_case", false}});
  EXPECT_EQ(ids("Hello world"), (Ids{2, 7, 6, 3}));
}

/// With ten tokens in vocab.txt the first new one gets the id 10.
TEST_F(OpeningTokenizers, NewTokensGetIdsInTheOrderOfTheFile) {
  write_vocab_txt();
  write_json("config.json", {{"model_type", "bert"}});
  const std::string text = "<z> <a> <m>";
  const auto with_config = [&](const std::string& members) {
    write("tokenizer_config.json", "{\"tokenizer_class\": \"BertTokenizer\"" + members + "}");
    return ids(text);
  };
  EXPECT_EQ(with_config(R"(, "extra_special_tokens": {"z": "<z>", "a": "<a>", "m": "<m>"})"),
            (Ids{2, 10, 11, 12, 3}));
  EXPECT_EQ(with_config(R"(, "extra_special_tokens": {"a": "<z>", "m": "<m>", "b": "<a>"})"),
            (Ids{2, 10, 12, 11, 3}));
  EXPECT_EQ(with_config(R"(, "z_token": "<z>", "a_token": "<a>", "m_token": "<m>")"),
            (Ids{2, 10, 11, 12, 3}));
  // Keys inside other objects are not of the matter.
  EXPECT_EQ(
      with_config(
          R"(, "auto": {"m_token": "<m>", "extra_special_tokens": {"m": "<m>"}}, "extra_special_tokens": {"z": "<z>",
                           "a": "<a>", "m": "<m>"})"),
      (Ids{2, 10, 11, 12, 3}));
  // Objects come in front, and only those that say what they are.
  EXPECT_EQ(
      with_config(
          R"(, "z_token": "<z>", "a_token": {"__type": "AddedToken", "content": "<a>"}, "m_token": "<m>")"),
      (Ids{2, 11, 10, 12, 3}));
  EXPECT_NE(
      with_config(R"(, "z_token": "<z>", "a_token": {"content": "<a>"}, "m_token": "<m>")")[2], 11);

  write("special_tokens_map.json", R"({"z_token": "<z>", "a_token": "<a>", "m_token": "<m>"})");
  EXPECT_EQ(with_config(""), (Ids{2, 10, 11, 12, 3}));
  // What the map names comes first; where both name a key, its place is the map's and its text is
  // the other's.
  write("special_tokens_map.json", R"({"z_token": "<z>", "m_token": "<other>"})");
  EXPECT_EQ(with_config(R"(, "a_token": "<a>", "m_token": "<m>")"), (Ids{2, 10, 12, 11, 3}));
  write("special_tokens_map.json",
        R"({"extra_special_tokens": {"z": "<z>", "a": "<a>"}, "b_token": "<m>"})");
  EXPECT_EQ(with_config(""), (Ids{2, 11, 12, 10, 3}));
}

TEST_F(OpeningTokenizers, OfTokensWithOneIdTheLastCounts) {
  write_vocab_txt();
  write_json("config.json", {{"model_type", "bert"}});
  write("added_tokens.json", R"({"<z>": 10, "<a>": 10})");
  EXPECT_EQ(Tokenizer::open(dir_).id_of("<a>"), 10);
  EXPECT_FALSE(Tokenizer::open(dir_).id_of("<z>").has_value());
  write("added_tokens.json", R"({"<a>": 10, "<z>": 10})");
  EXPECT_EQ(Tokenizer::open(dir_).id_of("<z>"), 10);
  EXPECT_FALSE(Tokenizer::open(dir_).id_of("<a>").has_value());
}

TEST_F(OpeningTokenizers, NullTokensOfBertHaveFixedIds) {
  write_vocab_txt();
  const auto with_config = [&](const std::string& members) {
    write("tokenizer_config.json", "{\"tokenizer_class\": \"BertTokenizer\"" + members + "}");
    return ids("hello");
  };
  EXPECT_EQ(with_config(R"(, "cls_token": null, "sep_token": "a")"), (Ids{2, 5, 8}));
  EXPECT_EQ(with_config(R"(, "cls_token": "a", "sep_token": null)"), (Ids{8, 5, 3}));
  EXPECT_EQ(with_config(R"(, "cls_token": null, "sep_token": null)"), (Ids{3, 5, 3}));
  EXPECT_EQ(with_config(R"(, "mask_token": null, "pad_token": null)"), (Ids{2, 5, 3}));
}

TEST_F(OpeningTokenizers, NullTokensThatAClassNeedsAreRefusedByFileAndKey) {
  write_vocab_txt();
  write("tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer", "unk_token": null})");
  EXPECT_NE(refusal().find("tokenizer_config.json: key \"unk_token\" is null"), std::string::npos)
      << refusal();
  write("tokenizer_config.json", R"({"tokenizer_class": "FunnelTokenizer", "unk_token": "[UNK]"})");
  write("special_tokens_map.json", R"({"sep_token": null})");
  EXPECT_NE(refusal().find("special_tokens_map.json: key \"sep_token\" is null"), std::string::npos)
      << refusal();
}

/// A SentencePiece model of one-letter pieces (a protobuf message with fields below 128 bytes).
std::string sentencepiece_bytes() {
  const auto field = [](int number, const std::string& bytes) {
    return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
  };
  const auto number = [](int field_number, int value) {
    return std::string{static_cast<char>(field_number << 3), static_cast<char>(value)};
  };
  const auto piece = [&](const std::string& text, int type) {
    return field(
        1, field(1, text) + std::string("\x15\0\0\x80\xBF", 5) + number(3, type));  // score -1
  };
  const std::string trainer = number(3, 1);     // Unigram
  const std::string normalizer = number(3, 0);  // no space in front
  return piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3) + piece("a", 1) + piece("b", 1) +
         field(2, trainer) + field(3, normalizer);
}

TEST_F(OpeningTokenizers, SentencePieceModelsAloneHaveNoBeginToken) {
  write("tokenizer.model", sentencepiece_bytes());
  EXPECT_EQ(ids("ab"), (Ids{3, 4}));
  write_json("config.json", Json::object());
  EXPECT_EQ(ids("ab"), (Ids{3, 4}));
  write_json("tokenizer_config.json", {{"add_bos_token", true}});
  EXPECT_EQ(ids("ab"), (Ids{1, 3, 4}));

  // Under another name, which transformers does not look for, it is one of llama2.c.
  fs::remove(dir_ / "tokenizer_config.json");
  fs::rename(dir_ / "tokenizer.model", dir_ / "tok105.model");
  EXPECT_EQ(ids("ab"), (Ids{1, 3, 4}));
  write_json("tokenizer_config.json", {{"add_bos_token", false}});
  EXPECT_EQ(ids("ab"), (Ids{3, 4}));
}

class JapaneseTokenizers : public OpeningTokenizers {
 protected:
  /// Ids of `text` with these lines as vocabulary behind [PAD] [UNK] [CLS] [SEP] [MASK], without
  /// the tokens around.
  Ids ids_in(const std::string& lines, const std::string& text,
             const std::string& settings = "") const {
    write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + lines);
    write("tokenizer_config.json",
          "{\"tokenizer_class\": \"BertJapaneseTokenizer\"" + settings + "}");
    const Ids all = ids(text);
    return Ids(all.begin() + 1, all.end() - 1);
  }
};

TEST_F(JapaneseTokenizers, CharactersWithoutMeaningAreDropped) {
  // Unassigned, a noncharacter, private use, a control character and one that shows nothing; in
  // words and alone.
  EXPECT_EQ(ids_in("ab\n", "a\u0378b \U0001FBFF \uFDD0 \uE000 \u0085 \u200B a\u200Bb"),
            (Ids{5, 5}));
  // U+1FAE0 came with Unicode 14, U+1FAE8 with 15.
  EXPECT_EQ(ids_in("\U0001FAE0\n", "\U0001FAE0 \U0001FAE8"), (Ids{5}));
  // White space parts words, punctuation stands alone; U+061D is some since Unicode 14.
  EXPECT_EQ(ids_in("a\nb\n\u061D\n", "a\u2028b a\u3000b a\u061Db"), (Ids{5, 6, 5, 6, 5, 7, 6}));
}

TEST_F(JapaneseTokenizers, LowerCaseIsPythons) {
  const std::string lower = ", \"do_lower_case\": true";
  EXPECT_EQ(ids_in("\u03b1\u03c2\n\u03b1\u03c3\u03b1\n",
                   "\u0391\u03a3 \u0391\u03a3\u0391 \u0391\u03a3.", lower),
            (Ids{5, 6, 5, 1}));
  EXPECT_EQ(ids_in("i\ne\n", "\u0130 \u00c9", lower), (Ids{5, 6}));
  EXPECT_EQ(ids_in("i\ne\n", "\u0130 \u00c9"), (Ids{1, 1}));
}

TEST_F(JapaneseTokenizers, CharactersAreTakenApartByNewerTables) {
  const std::string characters = ", \"subword_tokenizer_type\": \"character\"";
  EXPECT_EQ(ids_in("\u4ee4\n\u548c\na\n", "a\u32FF", characters), (Ids{7, 5, 6}));
}

TEST_F(JapaneseTokenizers, LinesOfTheVocabularyArePythons) {
  EXPECT_EQ(ids_in("a \rb\r\nc\n", "a b c"), (Ids{1, 6, 7}));
}

TEST_F(JapaneseTokenizers, StagesThatAreLeftOutAreRefusedByTheirOwnNames) {
  write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
  for (const std::string key : {"do_word_tokenize", "do_subword_tokenize"}) {
    write_json("tokenizer_config.json",
               {{"tokenizer_class", "BertJapaneseTokenizer"}, {key, false}});
    EXPECT_NE(refusal().find("tokenizer_config.json: key \"" + key + "\" (false)"),
              std::string::npos)
        << refusal();
  }
}

}  // namespace
}  // namespace quell
