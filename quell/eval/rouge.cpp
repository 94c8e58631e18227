#include "quell/eval/rouge.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <string>
#include <vector>

namespace quell {
namespace {

using Words = std::vector<std::string>;

Words words_of(std::string_view text) {
  Words out;
  bool inside = false;
  for (const char c : text) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    const bool word = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    if (word && !inside) out.emplace_back();
    if (word) out.back().push_back(lower);
    inside = word;
  }
  return out;
}

double f1(double matches, double predicted, double expected) {
  if (matches == 0) return 0;
  const double precision = matches / predicted, recall = matches / expected;
  return 2 * precision * recall / (precision + recall);
}

double ngram_f1(const Words& expected, const Words& predicted, std::size_t n) {
  const auto count = [n](const Words& words) {
    std::map<Words, std::int64_t> counts;
    for (std::size_t i = 0; i + n <= words.size(); ++i)
      ++counts[Words(words.begin() + static_cast<std::ptrdiff_t>(i),
                     words.begin() + static_cast<std::ptrdiff_t>(i + n))];
    return counts;
  };
  const auto a = count(expected), b = count(predicted);
  std::int64_t matches = 0;
  for (const auto& [gram, times] : a)
    if (const auto it = b.find(gram); it != b.end()) matches += std::min(times, it->second);
  const auto grams = [n](const Words& w) {
    return static_cast<double>(w.size() + 1 > n ? w.size() + 1 - n : 0);
  };
  return f1(static_cast<double>(matches), grams(predicted), grams(expected));
}

double lcs_f1(const Words& expected, const Words& predicted) {
  std::vector<std::int64_t> row(predicted.size() + 1, 0);
  for (const std::string& word : expected) {
    std::int64_t diagonal = 0;
    for (std::size_t j = 1; j < row.size(); ++j) {
      const std::int64_t above = row[j];
      row[j] = word == predicted[j - 1] ? diagonal + 1 : std::max(row[j], row[j - 1]);
      diagonal = above;
    }
  }
  return f1(static_cast<double>(row.back()), static_cast<double>(predicted.size()),
            static_cast<double>(expected.size()));
}

}  // namespace

RougeScores rouge(std::string_view reference, std::string_view prediction) {
  const Words expected = words_of(reference), predicted = words_of(prediction);
  return {ngram_f1(expected, predicted, 1), ngram_f1(expected, predicted, 2),
          lcs_f1(expected, predicted)};
}

}  // namespace quell
