#include "quell/eval/squad.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "quell/base/error.h"
#include "quell/eval/row_count.h"
#include "quell/eval/scoring.h"
#include "quell/eval/squad_text.h"
#include "quell/io/json.h"
#include "quell/text/data/dataset.h"
#include "quell/text/data/text_file.h"
#include "quell/text/python_text.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {
namespace {

constexpr std::int64_t kStride = 128, kMaxAnswerTokens = 30;
constexpr std::size_t kBest = 20;

std::int64_t stride_of(std::int64_t max_length) { return std::min(kStride, max_length / 3); }

/// Texts of {"text": [...]} or of [{"text"}, ...].
std::vector<std::string> read_answers(const Json& answers) {
  std::vector<std::string> out;
  require(answers.is_array() || answers.is_object(), ErrorCode::kInvalidInput, "answers is ",
          answers.dump(), "; write [] where there is none");
  if (answers.is_object()) return answers.at("text").get<std::vector<std::string>>();
  for (const Json& answer : answers) out.push_back(answer.at("text").get<std::string>());
  return out;
}

/// A question, its context beside it or given by its paragraph.
void add_question(const Json& qa, const Json& context, SquadSet& set) {
  // Spaces in front of a question would only take the context's room (as run_qa.py has it).
  SquadQuestion q{python::lstrip(qa.at("question").get<std::string>()),
                  unicode::decode(context.get<std::string>()), read_answers(qa.at("answers")),
                  set.questions.size() + 1};
  set.version2 |= q.answers.empty() || qa.value("is_impossible", Json()) == true;
  set.questions.push_back(std::move(q));
}

void add_article(const Json& article, SquadSet& set) {
  if (article.contains("paragraphs")) {
    for (const Json& paragraph : article.at("paragraphs"))
      for (const Json& qa : paragraph.at("qas")) add_question(qa, paragraph.at("context"), set);
  } else {
    add_question(article, article.at("context"), set);
  }
}

struct SquadWindow {
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

/// What is known of a question from the windows so far.
struct Answer {
  std::optional<float> score;  ///< of `span`
  CharSpan span;
  std::optional<float> null_score;
};

void consider(const SquadWindow& w, std::span<const float> start, std::span<const float> end,
              bool version2, Answer& answer) {
  if (start.empty()) return;
  const float null_score = start.front() + end.front();
  answer.null_score = std::min(answer.null_score.value_or(null_score), null_score);
  for (const std::size_t s : best_of(start))
    for (const std::size_t e : best_of(end)) {
      const bool inside = w.sequence_ids[s] == 1 && w.sequence_ids[e] == 1;
      if (!inside || e < s || static_cast<std::int64_t>(e - s) >= kMaxAnswerTokens) continue;

      const CharSpan span{w.offsets[s].begin, w.offsets[e].end};
      if (version2 && span.begin == span.end) continue;  // would say that there is no answer
      const float score = start[s] + end[e];
      if (!answer.score || score > *answer.score) {
        answer.score = score;
        answer.span = span;
      }
    }
}

/// As run_qa.py writes it; where no span is possible, it predicts the word "empty" with a score of
/// 0.
std::string text_of(const Answer& answer, const SquadQuestion& q, bool version2) {
  if (version2 && answer.null_score.value_or(0) > answer.score.value_or(0)) return "";
  if (!answer.score) return "empty";
  return unicode::encode(
      q.context.substr(static_cast<std::size_t>(answer.span.begin),
                       static_cast<std::size_t>(answer.span.end - answer.span.begin)));
}

}  // namespace

SquadSet read_squad(const std::filesystem::path& file) {
  const std::string source = file.string(), text = read_data_text(file);
  if (data_ending(file) != ".jsonl") return parse_squad(parse_json(text, source), source);
  return parse_squad(Json(read_json_rows(file)), source);
}

SquadSet parse_squad(const Json& json, const std::string& source) {
  SquadSet set;
  try {
    if (json.is_object() && json.contains("version")) {
      const Json& said = json["version"];
      const std::string version = said.is_string() ? said.get<std::string>() : said.dump();
      set.version2 = version.starts_with("v2") || version.starts_with("2");
    }
    for (const Json& article : json.is_array() ? json : json.at("data")) add_article(article, set);
  } catch (const Error& e) {
    throw Error(e.code(), str(source, ": question ", set.questions.size() + 1, ": ", e.what()));
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidInput, str(source, ": not in SQuAD's layout at question ",
                                              set.questions.size() + 1, ": ", e.what()));
  }
  require(!set.questions.empty(), ErrorCode::kInvalidInput, source, ": no questions");
  return set;
}

void leave_out_long_questions(SquadSet& set, const Tokenizer& tokenizer, std::int64_t max_length,
                              const std::string& source) {
  RowCount too_long;
  const auto limit = static_cast<std::size_t>(max_length),
             stride = static_cast<std::size_t>(stride_of(max_length));
  std::erase_if(set.questions, [&](const SquadQuestion& q) {
    if (tokenizer.encode_pair(q.question, "").ids.size() + stride < limit) return false;
    if (tokenizer.encode_pair(q.question, unicode::encode(q.context)).ids.size() <= limit)
      return false;
    too_long.add(q.row);
    return true;
  });
  too_long.warn(source, str("are left out: beside the question, ", max_length,
                            " tokens leave no room for windows of the context"));
}

SquadScores evaluate_squad(const ForwardModel& model, const Tokenizer& tokenizer,
                           const SquadSet& set, std::int64_t max_length, ExecContext& ctx) {
  const std::vector<SquadQuestion>& questions = set.questions;
  std::vector<TokenSequence> sequences;
  std::vector<SquadWindow> windows;
  for (std::size_t q = 0; q < questions.size(); ++q) {
    const std::string context = unicode::encode(questions[q].context);
    for (Encoding& e : tokenizer.encode_pair_windows(questions[q].question, context,
                                                     {.max_length = max_length, .details = true},
                                                     stride_of(max_length))) {
      sequences.push_back({std::move(e.ids), std::move(e.type_ids), {}});
      windows.push_back({q, std::move(e.offsets), std::move(e.sequence_ids)});
    }
  }

  // Windows come back in another order; the first of equal spans is to be found whatever that is.
  std::vector<std::vector<float>> start_scores(windows.size()), end_scores(windows.size());
  for_each_forward(
      model, sequences, false,
      [&](std::size_t i, const TokenBatch& batch, std::int64_t r, const ForwardOutputs& outputs) {
        const auto start = outputs.values.find("start_logits"),
                   end = outputs.values.find("end_logits");
        require(start != outputs.values.end() && end != outputs.values.end(), ErrorCode::kUsage,
                "this model gives no answer spans; squad needs a question-answering head");
        const auto row = [&](const Tensor& t) {
          const auto values = t.f32().subspan(static_cast<std::size_t>(r * batch.length),
                                              windows[i].offsets.size());
          return std::vector<float>(values.begin(), values.end());
        };
        start_scores[i] = row(start->second);
        end_scores[i] = row(end->second);
      },
      "evaluate", ctx);
  std::vector<Answer> found(questions.size());
  for (std::size_t i = 0; i < windows.size(); ++i)
    consider(windows[i], start_scores[i], end_scores[i], set.version2, found[windows[i].question]);

  SquadScores scores;
  for (std::size_t q = 0; q < questions.size(); ++q) {
    const std::string text = text_of(found[q], questions[q], set.version2);
    const AnswerScore score = score_answer(text, questions[q].answers, set.version2);
    SquadTotal& total = questions[q].answers.empty() ? scores.without_answer : scores.with_answer;
    total.exact += score.exact;
    total.f1 += score.f1;
    ++total.count;
  }
  return scores;
}

}  // namespace quell
