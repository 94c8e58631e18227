// Properties of tokenizers beyond the recorded lines: scanners against their patterns, hostile
// texts, truncation, padding.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/regex.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {
namespace {

Json byte_level() {
  Json vocab = Json::object();
  for (int i = 0; i < 256; ++i) {
    std::string s;
    unicode::append_utf8(s, static_cast<char32_t>(i + 0x100));
    vocab[s] = i;
  }
  for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = 300 + c;
  vocab["aa"] = 500;
  vocab["aaaa"] = 501;
  return {{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a a", "aa aa"}}}},
          {"decoder", {{"type", "ByteLevel"}}}};
}

Json unigram() {
  const Json vocab = Json::array({Json::array({"<unk>", 0}), Json::array({"a", -1}),
                                  Json::array({"\u2581", -2}), Json::array({"aa", -1.5})});
  return {{"normalizer", {{"type", "NFKC"}}},
          {"pre_tokenizer", {{"type", "Metaspace"}}},
          {"model", {{"type", "Unigram"}, {"vocab", vocab}, {"unk_id", 0}}},
          {"decoder", {{"type", "Metaspace"}}}};
}

Json word_piece() {
  return {
      {"normalizer", {{"type", "BertNormalizer"}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"model", {{"type", "WordPiece"}, {"vocab", {{"[UNK]", 0}, {"a", 1}, {"##a", 2}, {"b", 3}}}}},
      {"post_processor", {{"type", "BertProcessing"}, {"cls", {"b", 3}}, {"sep", {"b", 3}}}},
      {"decoder", {{"type", "WordPiece"}}}};
}

TEST(Scanners, EqualTheirPatternsOnRandomText) {
  // Split by the pattern itself (a group around it keeps it from being recognised) against the
  // scanner.
  const auto split = [](const std::string& pattern) {
    Json json = byte_level();
    json["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    return Tokenizer::from_json(json, "test");
  };
  const std::u32string alphabet =
      U"aaZ 12'sSretvmldLV.,!\r\n\t\n  \u017f\u00e9\u00b2\u0300\u00a0\u3000\u4e00\u200d\U0001F600";
  std::mt19937 random(1);
  const std::string tail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                    head = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  for (const std::string& pattern :
       {std::string(
            R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"),
        head + R"(\p{N}{1,3})" + tail, head + R"(\p{N})" + tail}) {
    const Tokenizer scanner = split(pattern), by_pattern = split("(?:" + pattern + ")");
    for (int i = 0; i < 5000; ++i) {
      std::u32string text;
      for (std::size_t n = random() % 24; n-- > 0;)
        text.push_back(alphabet[random() % alphabet.size()]);
      const std::string utf8 = unicode::encode(text);
      const Encoding a = scanner.encode(utf8, {.details = true}),
                     b = by_pattern.encode(utf8, {.details = true});
      ASSERT_EQ(a.ids, b.ids) << pattern << "\n" << utf8;
      ASSERT_EQ(a.offsets, b.offsets) << pattern << "\n" << utf8;
    }
  }
}

TEST(Tokenizer, HostileLinesComeBackWhole) {
  const std::size_t n = 1 << 20;
  std::string accents;
  for (std::size_t i = 0; i < n / 4; ++i)
    accents += i % 2 ? "\u0301" : "\u0323";  // marks of two classes, out of order
  for (const Json& json : {byte_level(), unigram(), word_piece()}) {
    const Tokenizer t = Tokenizer::from_json(json, "test");
    for (const std::string& text : {std::string(n, 'a'), std::string(n, ' '), "a" + accents}) {
      const Encoding e = t.encode(text);
      EXPECT_LE(e.ids.size(), text.size() + 2);
      (void)t.decode(e.ids);
    }
  }
  const Tokenizer bytes = Tokenizer::from_json(byte_level(), "test");
  const std::string letters(n, 'a');
  EXPECT_EQ(bytes.decode(bytes.encode(letters).ids), letters);
  EXPECT_EQ(bytes.encode(letters).ids, std::vector<std::int32_t>(n / 4, 501));
}

TEST(Normalization, OrderOfMarksIsCanonical) {
  // dot below (220) sorts before acute (230); a with dot below and acute composes as far as Unicode
  // has it
  const auto text = [](const std::vector<unicode::Change>& changes) {
    std::u32string s;
    for (const auto& c : changes) s.push_back(c.c);
    return s;
  };
  EXPECT_EQ(text(unicode::normalize(U"a\u0301\u0323", unicode::Form::kNfd)), U"a\u0323\u0301");
  EXPECT_EQ(text(unicode::normalize(U"a\u0301\u0323", unicode::Form::kNfc)), U"\u1ea1\u0301");
  EXPECT_EQ(text(unicode::normalize(U"\u1100\u1161\u11a8", unicode::Form::kNfc)), U"\uac01");
  EXPECT_EQ(text(unicode::normalize(U"\ufb01", unicode::Form::kNfkc)), U"fi");
}

TEST(Truncation, LongestFirstFollowsTheReference) {
  const Tokenizer t = Tokenizer::from_json(word_piece(), "test");
  const auto kept = [&](const char* a, const char* b, std::int64_t limit) {
    const Encoding e = t.encode_pair(a, b, {.max_length = limit, .details = true});
    return std::pair(std::count(e.sequence_ids.begin(), e.sequence_ids.end(), 0),
                     std::count(e.sequence_ids.begin(), e.sequence_ids.end(), 1));
  };
  EXPECT_EQ(kept("a a a a a", "a a a a a", 8), std::pair(std::ptrdiff_t{2}, std::ptrdiff_t{3}));
  EXPECT_EQ(kept("a a a a a a", "a a a a a", 8), std::pair(std::ptrdiff_t{3}, std::ptrdiff_t{2}));
  EXPECT_EQ(kept("a", "a a a a a", 7), std::pair(std::ptrdiff_t{1}, std::ptrdiff_t{3}));
  EXPECT_EQ(t.encode("a b a", {.max_length = 3, .truncate_left = true}).ids,
            (std::vector<std::int32_t>{3, 1, 3}));
  EXPECT_THROW(
      t.encode_pair("a", "a a", {.max_length = 4, .truncation = TruncationStrategy::kOnlyFirst}),
      Error);
}

TEST(Windows, CoverTheSecondSequenceWithOverlap) {
  const Tokenizer t = Tokenizer::from_json(word_piece(), "test");
  const auto windows = t.encode_pair_windows("b", "a a a a a a a",
                                             {.max_length = 8, .details = true}, 2);  // room for 4
  ASSERT_EQ(windows.size(), 3U);
  EXPECT_EQ(windows[1].offsets[3].begin, 4);  // starts two tokens before the first window's end
  EXPECT_EQ(windows[2].offsets[windows[2].offsets.size() - 2].end, 13);
}

TEST(Padding, FillsEitherSideToAMultiple) {
  const Tokenizer t = Tokenizer::from_json(word_piece(), "test");
  std::vector<Encoding> batch = {t.encode("a"), t.encode("a b a")};
  const auto masks = pad(batch, {.multiple_of = 4, .left = true, .id = 9});
  EXPECT_EQ(batch[0].ids, (std::vector<std::int32_t>{9, 9, 9, 9, 9, 3, 1, 3}));
  EXPECT_EQ(masks[0], (std::vector<std::int32_t>{0, 0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(batch[1].ids.size(), 8U);
}

TEST(Defaults, AreWhatTheFileSays) {
  EXPECT_FALSE(Tokenizer::from_json(word_piece(), "test").defaults().truncation.has_value());
  Json json = word_piece();
  json["truncation"] = {
      {"max_length", 128}, {"strategy", "OnlySecond"}, {"direction", "Left"}, {"stride", 0}};
  json["padding"] = {{"strategy", {{"Fixed", 64}}},
                     {"direction", "Left"},
                     {"pad_id", 7},
                     {"pad_type_id", 0},
                     {"pad_token", "[P]"}};
  const Tokenizer t = Tokenizer::from_json(json, "test");
  ASSERT_TRUE(t.defaults().truncation && t.defaults().padding);
  EXPECT_EQ(t.defaults().truncation->max_length, 128);
  EXPECT_EQ(t.defaults().truncation->truncation, TruncationStrategy::kOnlySecond);
  EXPECT_TRUE(t.defaults().truncation->truncate_left && t.defaults().padding->left);
  EXPECT_EQ(t.defaults().padding->length, 64);
  EXPECT_EQ(t.defaults().padding->id, 7);
}

TEST(Regex, PatternsThatBacktrackWithoutEndAreGivenUp) {
  // Plain alternatives are no trouble; behind a look-behind Oniguruma has to try, and must not try
  // for ever.
  const std::u32string text = std::u32string(60, U'a') + U"!";
  EXPECT_NO_THROW(Regex("(a|aa)+$").for_each_match(text, [](CharRange) {}));
  EXPECT_THROW(Regex("(a|aa)+(?<=[!])$").for_each_match(text, [](CharRange) {}), Error);
  EXPECT_THROW(Regex("("), Error);
}

}  // namespace
}  // namespace quell
