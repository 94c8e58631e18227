#include "quell/train/sentence_generator.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace quell::train {
namespace {

struct Weighted {
  const char* word;
  int weight;
};

constexpr std::array kAspects = {
    "food",   "service", "room",   "view",    "price",   "staff",  "bed",   "pool",   "music",
    "coffee", "garden",  "lobby",  "screen",  "battery", "camera", "sound", "design", "case",
    "plot",   "actor",   "ending", "script",  "cover",   "style",  "index", "engine", "seat",
    "wheel",  "trunk",   "radio",  "terrace", "bread",   "soup",   "wine",  "menu",   "waiter"};
constexpr Weighted kAdjectives[] = {
    {"fine", 1},      {"decent", 1},   {"pleasant", 1}, {"useful", 1},    {"neat", 1},
    {"tidy", 1},      {"good", 2},     {"clever", 2},   {"charming", 2},  {"solid", 2},
    {"lovely", 2},    {"bright", 2},   {"superb", 3},   {"brilliant", 3}, {"wonderful", 3},
    {"perfect", 3},   {"plain", -1},   {"dull", -1},    {"noisy", -1},    {"slow", -1},
    {"tired", -1},    {"messy", -1},   {"bad", -2},     {"weak", -2},     {"clumsy", -2},
    {"dirty", -2},    {"boring", -2},  {"broken", -2},  {"awful", -3},    {"terrible", -3},
    {"horrible", -3}, {"dreadful", -3}};
constexpr Weighted kDegrees[] = {{"very", 2}, {"truly", 2},     {"really", 2},
                                 {"so", 2},   {"slightly", -1}, {"somewhat", -1}};
constexpr std::array kVerbs = {"was", "seemed", "felt", "looked", "remained"};
constexpr std::array kOpenings = {"honestly", "overall", "today", "again",
                                  "frankly",  "luckily", "sadly"};
constexpr std::array kFunctionWords = {"the", "not", "never", "but",   "although", "and", "while",
                                       ",",   ".",   "we",    "think", "nobody",   "said"};

template <typename Table>
const auto& pick(const Table& table, Random& random) {
  return table[random.below(std::size(table))];
}

/// Appends a clause and returns its value in quarters.
int add_clause(std::string& text, Random& random) {
  const Weighted& adjective = pick(kAdjectives, random);
  int value = 4 * adjective.weight;
  const bool denied = random.below(8) == 0, negated = !denied && random.below(4) == 0;
  if (denied) text += "nobody said ";
  text += std::string("the ") + pick(kAspects, random) + " " + pick(kVerbs, random) + " ";
  if (negated) text += random.below(2) ? "not " : "never ";
  if (random.below(3) == 0) {
    const Weighted& degree = pick(kDegrees, random);
    text += std::string(degree.word) + " ";
    value = degree.weight > 0 ? value * 2 : value / 2;
  }
  text += std::string(adjective.word) + " ";
  return denied || negated ? -value : value;
}

LabelledSentence try_sentence(Random& random) {
  std::string text;
  int total = 0;
  if (random.below(4) == 0) text += std::string(pick(kOpenings, random)) + " , ";
  if (random.below(5) == 0) text += "we think ";
  const bool concession = random.below(4) == 0;
  if (concession) {
    text += "although ";
    total += add_clause(text, random) / 2;
    text += ", ";
  }
  const std::uint64_t clauses = 1 + random.below(3);
  for (std::uint64_t i = 0; i < clauses; ++i) {
    if (i > 0) text += random.below(2) ? "and " : "while ";
    total += add_clause(text, random);
  }
  if (random.below(3) == 0 || clauses == 1) {
    text += "but ";
    total += 2 * add_clause(text, random);
  }
  return {text + ".", total == 0 ? -1 : total > 0 ? 1 : 0};
}

}  // namespace

LabelledSentence generate_sentence(Random& random) {
  LabelledSentence s = try_sentence(random);
  while (s.label < 0) s = try_sentence(random);
  return s;
}

std::vector<std::string> lexicon() {
  std::vector<std::string> words(kFunctionWords.begin(), kFunctionWords.end());
  words.insert(words.end(), kVerbs.begin(), kVerbs.end());
  words.insert(words.end(), kOpenings.begin(), kOpenings.end());
  words.insert(words.end(), kAspects.begin(), kAspects.end());
  for (const Weighted& w : kDegrees) words.emplace_back(w.word);
  for (const Weighted& w : kAdjectives) words.emplace_back(w.word);
  return words;
}

}  // namespace quell::train
