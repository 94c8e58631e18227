#include "quell/eval/language_tasks.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/eval/answer_key.h"
#include "quell/eval/row_count.h"
#include "quell/io/json.h"
#include "quell/text/data/dataset.h"
#include "quell/text/python_text.h"

namespace quell {
namespace {

struct Choice {
  std::string context, continuation;
  std::string text;  ///< what the length is taken of
};
struct Question {
  std::vector<Choice> choices;
  std::size_t gold = 0;
};

std::string field(const Json& row, const char* key, const std::string& where) {
  const auto it = row.find(key);
  require(it != row.end() && it->is_string(), ErrorCode::kInvalidInput, where, ": no string \"",
          key, '"');
  return it->get<std::string>();
}

Question with_choices(const std::string& context, const std::vector<std::string>& choices) {
  Question q;
  for (const std::string& choice : choices) q.choices.push_back({context, " " + choice, choice});
  return q;
}

std::vector<std::string> strings(const Json& list, const std::string& name,
                                 const std::string& where) {
  require(list.is_array() && !list.empty(), ErrorCode::kInvalidInput, where, ": no list ", name);
  std::vector<std::string> out;
  for (const Json& s : list) {
    require(s.is_string(), ErrorCode::kInvalidInput, where, ": ", name,
            " holds something other than strings");
    out.push_back(s.get<std::string>());
  }
  return out;
}

/// Texts of choices and what the file calls them ("A", "1", ...; empty: nothing).
struct LabelledChoices {
  std::vector<std::string> texts, labels;
};

/// A list of strings, one object {"text": [...], "label": [...]}, or a list of objects {"text",
/// "label"}.
LabelledChoices read_choices(const Json& row, const char* key, const std::string& where) {
  const std::string name = str('"', key, '"');
  const auto it = row.find(key);
  require(it != row.end(), ErrorCode::kInvalidInput, where, ": no list ", name);
  LabelledChoices out;
  if (it->is_object()) {
    out.texts = strings(it->value("text", Json()), name + " of \"text\"", where);
    if (it->contains("label")) out.labels = strings((*it)["label"], name + " of \"label\"", where);
  } else if (it->is_array() && !it->empty() && it->front().is_object()) {
    for (const Json& choice : *it) {
      require(choice.is_object(), ErrorCode::kInvalidInput, where, ": ", name,
              " holds something other than objects");
      out.texts.push_back(field(choice, "text", where));
      if (choice.contains("label")) out.labels.push_back(field(choice, "label", where));
    }
  } else {
    out.texts = strings(*it, name, where);
  }
  require(out.labels.empty() || out.labels.size() == out.texts.size(), ErrorCode::kInvalidInput,
          where, ": ", out.labels.size(), " labels for ", out.texts.size(), " choices");
  return out;
}

/// The right choice, by any of the names that data sets give it. "gold" and "label" count from 0,
/// "answerKey" and "answer" from 1.
std::size_t right_choice(const Json& row, std::vector<AnswerKey> keys,
                         const LabelledChoices& choices, const std::string& where) {
  keys.insert(keys.begin(), {"gold", 0});
  return find_answer(row, keys, choices.labels, choices.texts.size(), where);
}

/// Rows that are prepared already: "query", "choices" and the answer.
Question read_prepared(const Json& row, std::vector<AnswerKey> keys, const std::string& where) {
  const LabelledChoices choices = read_choices(row, "choices", where);
  Question q = with_choices(field(row, "query", where), choices.texts);
  q.gold = right_choice(row, std::move(keys), choices, where);
  return q;
}

Question read_piqa(const Json& row, const std::string& where) {
  const std::vector<AnswerKey> keys = {{"label", 0}};
  if (row.contains("query")) return read_prepared(row, keys, where);

  const LabelledChoices choices = {{field(row, "sol1", where), field(row, "sol2", where)}, {}};
  Question q = with_choices("Question: " + field(row, "goal", where) + "\nAnswer:", choices.texts);
  q.gold = right_choice(row, keys, choices, where);
  return q;
}

/// As published by its authors ("question": {"stem", "choices"}) or as a table of the question and
/// its choices.
Question read_arc(const Json& row, const std::string& where) {
  const std::vector<AnswerKey> keys = {{"answerKey", 1, true}};
  if (row.contains("query")) return read_prepared(row, keys, where);

  const auto question = row.find("question");
  const bool nested = question != row.end() && question->is_object();
  const LabelledChoices choices = read_choices(nested ? *question : row, "choices", where);
  const std::string stem = nested ? field(*question, "stem", where) : field(row, "question", where);
  Question q = with_choices("Question: " + stem + "\nAnswer:", choices.texts);
  q.gold = right_choice(row, keys, choices, where);
  return q;
}

/// With "query" and "choices" already cleaned, or as the data set has it: "activity_label",
/// "ctx_a", "ctx_b", "endings".
Question read_hellaswag(const Json& row, const std::string& where) {
  const std::vector<AnswerKey> keys = {{"label", 0}};
  if (row.contains("query")) return read_prepared(row, keys, where);

  const std::string second =
      unicode::encode(python::capitalize(unicode::decode(field(row, "ctx_b", where))));
  LabelledChoices endings = {strings(row.value("endings", Json()), "\"endings\"", where), {}};
  for (std::string& e : endings.texts) e = clean_hellaswag(e);
  Question q = with_choices(clean_hellaswag(field(row, "activity_label", where) + ": " +
                                            field(row, "ctx_a", where) + " " + second),
                            endings.texts);
  q.gold = right_choice(row, keys, endings, where);
  return q;
}

/// The option stands in the context; what is scored is the rest of the sentence.
Question read_winogrande(const Json& row, const std::string& where) {
  const std::string sentence = field(row, "sentence", where);
  const std::size_t blank = sentence.find('_');
  require(blank != std::string::npos, ErrorCode::kInvalidInput, where, ": the sentence has no _");
  const std::string rest = python::strip(sentence.substr(blank + 1));
  const LabelledChoices options = {{field(row, "option1", where), field(row, "option2", where)},
                                   {}};
  Question q;
  for (const std::string& option : options.texts)
    q.choices.push_back({sentence.substr(0, blank) + option, " " + rest, rest});
  q.gold = right_choice(row, {{"answer", 1}}, options, where);
  return q;
}

/// The last word of a passage.
Question read_lambada(const Json& row, const std::string& where) {
  const std::string text = field(row, "text", where);
  const std::size_t space = text.rfind(' ');
  require(space != std::string::npos, ErrorCode::kInvalidInput, where, ": a text of one word");
  Question q;
  q.choices.push_back({text.substr(0, space), text.substr(space), text.substr(space + 1)});
  return q;
}

using Reader = Question (*)(const Json&, const std::string&);
constexpr std::pair<const char*, Reader> kReaders[] = {{"piqa", read_piqa},
                                                       {"hellaswag", read_hellaswag},
                                                       {"arc_easy", read_arc},
                                                       {"winogrande", read_winogrande},
                                                       {"lambada", read_lambada}};

struct EncodedChoice {
  TokenSequence sequence;
  bool cut = false;       ///< the beginning of its context is left out
  bool too_long = false;  ///< so is a part of what is scored
};

/// Tokens of context and continuation together, so that a merge across the border counts for the
/// continuation.
EncodedChoice encode_choice(const Choice& choice, const Tokenizer& tokenizer, std::int64_t context,
                            const std::string& where) {
  const std::string before = python::rstrip(choice.context);
  const std::string after = choice.context.substr(before.size()) +
                            choice.continuation;  // spaces go with the continuation
  const EncodeOptions plain{.add_special_tokens = false};
  const std::vector<std::int32_t> whole = tokenizer.encode(before + after, plain).ids;
  require(whole.size() >= 2, ErrorCode::kInvalidInput, where,
          ": context and choice are fewer than two tokens");
  std::size_t border = std::min(tokenizer.encode(before, plain).ids.size(), whole.size() - 1);
  border = std::max<std::size_t>(border, 1);
  const std::size_t inputs = whole.size() - 1,
                    dropped = inputs - std::min(inputs, static_cast<std::size_t>(context));
  TokenSequence s;
  s.ids.assign(whole.begin() + static_cast<std::ptrdiff_t>(dropped), whole.end() - 1);
  s.labels.assign(s.ids.size(), -100);
  for (std::size_t i = std::max(border, dropped + 1); i < whole.size(); ++i)
    s.labels[i - 1 - dropped] = whole[i];
  return {std::move(s), dropped > 0, border < dropped + 1};
}

std::size_t count_characters(const std::string& text) { return unicode::decode(text).size(); }

}  // namespace

std::string clean_hellaswag(std::string text) {
  const auto replace_all = [&](std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  };
  text = python::strip(text);
  replace_all(" [title]", ". ");
  for (std::size_t open = 0; (open = text.find('[', open)) != std::string::npos;) {
    const std::size_t close = text.find_first_of("]\n", open);  // brackets hold no line break
    if (close != std::string::npos && text[close] == ']')
      text.erase(open, close + 1 - open);
    else
      ++open;
  }
  replace_all("  ", " ");
  return text;
}

const std::vector<std::string>& choice_task_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> n;
    for (const auto& [name, reader] : kReaders) n.emplace_back(name);
    return n;
  }();
  return names;
}

ChoiceSet load_choice_task(const std::string& task, const std::filesystem::path& file,
                           const Tokenizer& tokenizer, const Model& model, std::int64_t skip,
                           std::int64_t limit) {
  return make_choice_set(task, read_json_rows(file), file.string(), tokenizer,
                         model.spec.max_position_embeddings, skip, limit);
}

ChoiceSet make_choice_set(const std::string& task, const std::vector<Json>& rows,
                          const std::string& source, const Tokenizer& tokenizer,
                          std::int64_t context, std::int64_t skip, std::int64_t limit) {
  const auto* entry = std::find_if(std::begin(kReaders), std::end(kReaders),
                                   [&](const auto& e) { return e.first == task; });
  require(entry != std::end(kReaders), ErrorCode::kUsage, "--task ", task, " is unknown");
  ChoiceSet set;
  RowCount cut, too_long;
  const std::size_t begin = static_cast<std::size_t>(skip);
  for (std::size_t i = begin;
       i < rows.size() && (limit == 0 || i < begin + static_cast<std::size_t>(limit)); ++i) {
    const std::string where = str(source, ": row ", i + 1);
    const Question q = entry->second(rows[i], where);
    std::vector<EncodedChoice> encoded;
    for (const Choice& choice : q.choices)
      encoded.push_back(encode_choice(choice, tokenizer, context, where));
    if (std::any_of(encoded.begin(), encoded.end(),
                    [](const EncodedChoice& e) { return e.too_long; })) {
      too_long.add(i + 1);
      continue;
    }
    if (std::any_of(encoded.begin(), encoded.end(), [](const EncodedChoice& e) { return e.cut; }))
      cut.add(i + 1);

    ChoiceQuestion question{set.sequences.size(), q.choices.size(), {}, q.gold};
    for (const Choice& choice : q.choices)
      question.lengths.push_back(std::max(1.0, static_cast<double>(count_characters(choice.text))));
    for (EncodedChoice& e : encoded) set.sequences.push_back(std::move(e.sequence));
    set.questions.push_back(std::move(question));
  }
  cut.warn(source, str("lose the beginning of their context, which the model's ", context,
                       " tokens do not hold"));
  too_long.warn(source,
                str("are left out: a choice is longer than the model's ", context, " tokens"));
  require(!set.questions.empty(), ErrorCode::kInvalidInput, source, ": no rows left to evaluate");
  return set;
}

}  // namespace quell
