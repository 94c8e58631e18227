#include "quell/eval/squad.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <sstream>

#include "quell/base/error.h"
#include "quell/eval/scoring.h"

namespace quell {
namespace {

constexpr std::int64_t kStride = 128, kMaxAnswerTokens = 30;
constexpr std::size_t kBest = 20;

struct Window {
  std::size_t question;
  std::vector<CharSpan> offsets;
  std::vector<std::int32_t> sequence_ids;
};

std::vector<std::size_t> best_of(std::span<const float> scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto n = static_cast<std::ptrdiff_t>(std::min(kBest, order.size()));
  std::partial_sort(order.begin(), order.begin() + n, order.end(),
                    [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(static_cast<std::size_t>(n));
  return order;
}

struct Answer {
  double score = -INFINITY;
  CharSpan span;
};

Answer best_span(const Window& w, std::span<const float> start, std::span<const float> end) {
  Answer best;
  for (const std::size_t s : best_of(start))
    for (const std::size_t e : best_of(end)) {
      const bool inside = w.sequence_ids[s] == 1 && w.sequence_ids[e] == 1;
      if (!inside || e < s || static_cast<std::int64_t>(e - s) >= kMaxAnswerTokens) continue;
      const double score = static_cast<double>(start[s]) + static_cast<double>(end[e]);
      if (score > best.score) best = {score, {w.offsets[s].begin, w.offsets[e].end}};
    }
  return best;
}

}  // namespace

std::vector<SquadQuestion> read_squad(const std::filesystem::path& file) {
  return parse_squad(read_json_file(file), file.string());
}

std::vector<SquadQuestion> parse_squad(const Json& json, const std::string& source) {
  std::vector<SquadQuestion> out;
  try {
    for (const Json& article : json.at("data"))
      for (const Json& paragraph : article.at("paragraphs"))
        for (const Json& qa : paragraph.at("qas")) {
          SquadQuestion q{qa.at("question").get<std::string>(), unicode::decode(paragraph.at("context").get<std::string>()), {}};
          for (const Json& answer : qa.at("answers")) q.answers.push_back(answer.at("text").get<std::string>());
          if (!q.answers.empty()) out.push_back(std::move(q));
        }
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidInput, source + ": not in SQuAD's layout: " + e.what());
  }
  require(!out.empty(), ErrorCode::kInvalidInput, source, ": no questions with answers");
  return out;
}

std::string normalize_answer(const std::string& text) {
  std::string plain;
  for (const char c : text)
    if (!std::ispunct(static_cast<unsigned char>(c)))
      plain.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  std::istringstream in(plain);
  std::string out;
  for (std::string word; in >> word;)
    if (word != "a" && word != "an" && word != "the") out += (out.empty() ? "" : " ") + word;
  return out;
}

double answer_f1(const std::string& prediction, const std::string& answer) {
  const auto words = [](const std::string& text) {
    std::map<std::string, std::int64_t> counts;
    std::istringstream in(normalize_answer(text));
    for (std::string word; in >> word;) ++counts[word];
    return counts;
  };
  const auto a = words(prediction), b = words(answer);
  std::int64_t same = 0, predicted = 0, expected = 0;
  for (const auto& [word, n] : a) predicted += n;
  for (const auto& [word, n] : b) {
    expected += n;
    if (const auto it = a.find(word); it != a.end()) same += std::min(n, it->second);
  }
  if (predicted == 0 || expected == 0) return predicted == expected ? 1 : 0;
  if (same == 0) return 0;
  const double precision = static_cast<double>(same) / static_cast<double>(predicted),
               recall = static_cast<double>(same) / static_cast<double>(expected);
  return 2 * precision * recall / (precision + recall);
}

SquadScores evaluate_squad(const ForwardModel& model, const Tokenizer& tokenizer, const std::vector<SquadQuestion>& questions,
                           std::int64_t max_length, ExecContext& ctx) {
  std::vector<TokenSequence> sequences;
  std::vector<Window> windows;
  for (std::size_t q = 0; q < questions.size(); ++q) {
    const std::string context = unicode::encode(questions[q].context);
    for (Encoding& e : tokenizer.encode_pair_windows(questions[q].question, context, {.max_length = max_length, .details = true},
                                                     std::min(kStride, max_length / 3))) {
      sequences.push_back({std::move(e.ids), std::move(e.type_ids), {}});
      windows.push_back({q, std::move(e.offsets), std::move(e.sequence_ids)});
    }
  }
  std::vector<Answer> best(questions.size());
  for_each_forward(
      model, sequences, false,
      [&](std::size_t i, const TokenBatch& batch, std::int64_t r, const ForwardOutputs& outputs) {
        const auto start = outputs.values.find("start_logits"), end = outputs.values.find("end_logits");
        require(start != outputs.values.end() && end != outputs.values.end(), ErrorCode::kUsage,
                "this model gives no answer spans; squad needs a question-answering head");
        const auto row = [&](const Tensor& t) {
          return t.f32().subspan(static_cast<std::size_t>(r * batch.length), windows[i].offsets.size());
        };
        const Answer answer = best_span(windows[i], row(start->second), row(end->second));
        if (Answer& so_far = best[windows[i].question]; answer.score > so_far.score) so_far = answer;
      },
      "evaluate", ctx);
  SquadScores scores;
  for (std::size_t q = 0; q < questions.size(); ++q) {
    const CharSpan span = best[q].span;
    const std::string text = unicode::encode(
        questions[q].context.substr(static_cast<std::size_t>(span.begin), static_cast<std::size_t>(span.end - span.begin)));
    double exact = 0, f1 = 0;
    for (const std::string& answer : questions[q].answers) {
      exact = std::max(exact, normalize_answer(text) == normalize_answer(answer) ? 1.0 : 0.0);
      f1 = std::max(f1, answer_f1(text, answer));
    }
    scores.exact_match += 100 * exact / static_cast<double>(questions.size());
    scores.f1 += 100 * f1 / static_cast<double>(questions.size());
  }
  return scores;
}

}  // namespace quell
