#include "quell/eval/squad_text.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "quell/text/python_text.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

bool is_ascii_punctuation(char32_t c) {
  return (c >= U'!' && c <= U'/') || (c >= U':' && c <= U'@') || (c >= U'[' && c <= U'`') ||
         (c >= U'{' && c <= U'~');
}

/// re.sub(r'\b(a|an|the)\b', ' ', text)
std::u32string without_articles(std::u32string_view text) {
  std::u32string out;
  for (std::size_t at = 0; at < text.size();) {
    if (!python::is_word(text[at])) {
      out.push_back(text[at++]);
      continue;
    }
    const auto begin = text.begin() + static_cast<std::ptrdiff_t>(at);
    const std::u32string_view word = text.substr(
        at, static_cast<std::size_t>(std::find_if_not(begin, text.end(), python::is_word) - begin));
    if (word == U"a" || word == U"an" || word == U"the")
      out.push_back(U' ');
    else
      out += word;
    at += word.size();
  }
  return out;
}

std::vector<std::u32string> normalized_words(const std::string& text) {
  std::u32string plain = python::lower(unicode::decode(text));
  std::erase_if(plain, is_ascii_punctuation);
  return python::split(without_articles(plain));
}

double f1_of(const std::vector<std::u32string>& predicted,
             const std::vector<std::u32string>& expected, bool version2) {
  if (version2 && (predicted.empty() || expected.empty())) return predicted == expected ? 1 : 0;

  std::map<std::u32string, std::int64_t> left;
  for (const std::u32string& word : expected) ++left[word];
  std::int64_t same = 0;
  for (const std::u32string& word : predicted) same += left[word]-- > 0 ? 1 : 0;
  if (same == 0) return 0;

  const double precision = static_cast<double>(same) / static_cast<double>(predicted.size()),
               recall = static_cast<double>(same) / static_cast<double>(expected.size());
  return 2 * precision * recall / (precision + recall);
}

}  // namespace

std::string normalize_answer(const std::string& text) {
  std::u32string out;
  for (const std::u32string& word : normalized_words(text)) {
    if (!out.empty()) out.push_back(U' ');
    out += word;
  }
  return unicode::encode(out);
}

AnswerScore score_answer(const std::string& prediction, const std::vector<std::string>& answers,
                         bool version2) {
  const std::vector<std::u32string> predicted = normalized_words(prediction);
  std::vector<std::vector<std::u32string>> expected;
  for (const std::string& answer : answers)
    if (std::vector<std::u32string> words = normalized_words(answer); !version2 || !words.empty())
      expected.push_back(std::move(words));
  if (expected.empty()) expected.emplace_back();

  AnswerScore best;
  for (const std::vector<std::u32string>& words : expected) {
    best.exact = std::max(best.exact, predicted == words ? 1.0 : 0.0);
    best.f1 = std::max(best.f1, f1_of(predicted, words, version2));
  }
  return best;
}

}  // namespace quell
