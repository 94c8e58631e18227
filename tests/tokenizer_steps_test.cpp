// Linear time, told by counts of steps and not by a clock: every scanner and every pattern over
// runs of one kind of character and mixtures of them, of two lengths.
#include <gtest/gtest.h>

#include <set>

#include "quell/io/json.h"
#include "quell/text/tokenizer/pattern_scanners.h"
#include "quell/text/tokenizer/regex.h"
#include "quell/text/tokenizer/steps.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

/// Patterns of well-known tokenizers: GPT-2, LLaMA 3, Qwen 2 and 3.5, GPT-4, GPT-4o, DeepSeek,
/// CLIP, BLOOM, DeBERTa v2.
std::set<std::string> known_patterns() {
  return {
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
      R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"(\s?\p{L}+)",
      R"(\s?[\p{P}\p{S}]+)",
      R"(\s+$)",
      "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)",
      " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+",
      R"(\s{2,}|[\n\r\t])",
      " {2,}",
      R"(\A +| +\z)",
      "[\\p{Han}]+|[^\\s\\p{Han}]+",
  };
}

void collect_patterns(const Json& json, std::set<std::string>& patterns) {
  if (json.is_object() && json.contains("Regex") && json["Regex"].is_string())
    patterns.insert(json["Regex"].get<std::string>());
  if (json.is_structured())
    for (const Json& inner : json) collect_patterns(inner, patterns);
}

std::set<std::string> all_patterns() {
  std::set<std::string> patterns = known_patterns();
  const fs::path golden = quell::testing::find_data("golden/tokenizers");
  std::error_code ec;
  for (const auto& folder : fs::directory_iterator(golden, ec)) {
    const fs::path file = folder.path() / "tokenizer.json";
    if (!fs::exists(file)) continue;
    const Json json = read_json_file(file);
    for (const char* stage : {"normalizer", "pre_tokenizer", "decoder"})
      if (json.contains(stage)) collect_patterns(json[stage], patterns);
  }
  return patterns;
}

/// Texts of at least `n` characters.
std::vector<std::u32string> texts(std::size_t n) {
  const std::u32string units[] = {
      U"7",  U"a",      U"A",      U" ",  U"\n",  U"\r\n",         U"\t",     U"!",
      U"'",  U"\u0301", U"\u4e00", U"_",  U"a1",  U"1 ",           U" \n",    U"a\u0301",
      U"! ", U"'s",     U"aA",     U" a", U"\n ", U"a7!\n \u0301", U"\u00b2", U"\U0001F600"};
  std::vector<std::u32string> out;
  for (const std::u32string& unit : units) {
    std::u32string text;
    while (text.size() < n) text += unit;
    out.push_back(text);
    out.push_back(text + U"x");
    out.push_back(text + U" !");
    out.push_back(U"x" + text + U"\n");
  }
  return out;
}

template <typename Search>
void expect_linear(const std::string& what, Search search) {
  constexpr std::size_t kShort = 1500;
  const std::vector<std::u32string> some = texts(kShort), twice = texts(2 * kShort);
  for (std::size_t i = 0; i < some.size(); ++i) {
    const auto steps = [&](const std::u32string& text) {
      const std::uint64_t before = pattern_steps();
      search(text);
      return pattern_steps() - before;
    };
    const std::uint64_t first = steps(some[i]), second = steps(twice[i]);
    EXPECT_LE(second, 2 * first + first / 5 + 200)
        << what << " over " << unicode::encode(some[i].substr(0, 12)) << "...";
  }
}

TEST(LinearTime, EveryPatternOfTokenizers) {
  for (const std::string& pattern : all_patterns()) {
    const Regex regex(pattern);
    EXPECT_TRUE(regex.is_linear()) << pattern;
    expect_linear(
        pattern, [&](const std::u32string& text) { regex.for_each_match(text, [](CharRange) {}); });
  }
}

TEST(LinearTime, EveryScanner) {
  int scanners = 0;
  for (const std::string& pattern : all_patterns()) {
    const MatchEnd match_end = find_scanner(pattern);
    if (!match_end) continue;
    ++scanners;
    expect_linear("scanner of " + pattern, [&](const std::u32string& text) {
      for (std::size_t at = 0; at < text.size();) at = match_end(text, at);
    });
  }
  EXPECT_EQ(scanners, 3);
}

/// One million characters come to an end, whole.
TEST(LinearTime, LongRunsThroughWholeTokenizers) {
  for (const char* name : {"llama3", "qwen2", "deepseek", "deepseek-v3", "gpt2-cut", "bloom"}) {
    const fs::path folder = quell::testing::find_data(std::string("golden/tokenizers/") + name);
    if (folder.empty()) continue;
    const Tokenizer tokenizer = Tokenizer::open(folder);
    for (const char c : {'7', ' ', '\n'}) {
      const std::string text(1000000, c);
      const std::vector<std::int32_t> ids =
          tokenizer.encode(text, {.add_special_tokens = false}).ids;
      EXPECT_EQ(tokenizer.decode(ids), text) << name << " over " << static_cast<int>(c);
      if (c == '7' && std::string_view(name) == "qwen2") {
        EXPECT_EQ(ids, std::vector<std::int32_t>(text.size(), tokenizer.id_of("7").value()));
      }
    }
  }
}

}  // namespace
}  // namespace quell
