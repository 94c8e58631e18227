#include "quell/eval/language_tasks.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/text/data/dataset.h"

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
  require(it != row.end() && it->is_string(), ErrorCode::kInvalidInput, where, ": no string \"", key, '"');
  return it->get<std::string>();
}

std::size_t gold_of(const Json& row, std::initializer_list<const char*> keys, std::int64_t base, std::size_t choices,
                    const std::string& where) {
  for (const char* key : keys) {
    const auto it = row.find(key);
    if (it == row.end()) continue;
    std::int64_t value = -1;
    if (it->is_number_integer()) value = it->get<std::int64_t>() - base;
    if (it->is_string() && it->get<std::string>().size() == 1) {
      const char c = it->get<std::string>()[0];
      value = c >= 'A' && c <= 'Z' ? c - 'A' : c - '0' - base;
    }
    require(value >= 0 && value < static_cast<std::int64_t>(choices), ErrorCode::kInvalidInput, where, ": \"", key,
            "\" is not one of the ", choices, " choices");
    return static_cast<std::size_t>(value);
  }
  throw Error(ErrorCode::kInvalidInput, where + ": no \"" + *keys.begin() + "\"");
}

Question with_choices(const std::string& context, const std::vector<std::string>& choices) {
  Question q;
  for (const std::string& choice : choices) q.choices.push_back({context, " " + choice, choice});
  return q;
}

std::vector<std::string> strings(const Json& row, const char* key, const std::string& where) {
  const auto it = row.find(key);
  require(it != row.end() && it->is_array() && !it->empty(), ErrorCode::kInvalidInput, where, ": no list \"", key, '"');
  std::vector<std::string> out;
  for (const Json& s : *it) {
    require(s.is_string(), ErrorCode::kInvalidInput, where, ": \"", key, "\" holds something other than strings");
    out.push_back(s.get<std::string>());
  }
  return out;
}

Question read_piqa(const Json& row, const std::string& where) {
  Question q =
      with_choices("Question: " + field(row, "goal", where) + "\nAnswer:", {field(row, "sol1", where), field(row, "sol2", where)});
  q.gold = gold_of(row, {"label"}, 0, 2, where);
  return q;
}

Question read_arc(const Json& row, const std::string& where) {
  const std::string query =
      row.contains("query") ? field(row, "query", where) : "Question: " + field(row, "question", where) + "\nAnswer:";
  Question q = with_choices(query, strings(row, "choices", where));
  q.gold = gold_of(row, {"gold", "answerKey"}, 0, q.choices.size(), where);
  return q;
}

/// With "query" and "choices" already cleaned, or as the data set has it: "activity_label", "ctx_a", "ctx_b", "endings".
Question read_hellaswag(const Json& row, const std::string& where) {
  if (row.contains("query")) {
    Question q = with_choices(field(row, "query", where), strings(row, "choices", where));
    q.gold = gold_of(row, {"gold", "label"}, 0, q.choices.size(), where);
    return q;
  }
  std::string second = field(row, "ctx_b", where);
  for (std::size_t i = 0; i < second.size(); ++i)
    second[i] = static_cast<char>(i == 0 ? std::toupper(static_cast<unsigned char>(second[i]))
                                         : std::tolower(static_cast<unsigned char>(second[i])));
  std::vector<std::string> endings = strings(row, "endings", where);
  for (std::string& e : endings) e = clean_hellaswag(e);
  Question q = with_choices(clean_hellaswag(field(row, "activity_label", where) + ": " + field(row, "ctx_a", where) + " " + second),
                            endings);
  q.gold = gold_of(row, {"label"}, 0, q.choices.size(), where);
  return q;
}

/// The option stands in the context; what is scored is the rest of the sentence.
Question read_winogrande(const Json& row, const std::string& where) {
  const std::string sentence = field(row, "sentence", where);
  const std::size_t blank = sentence.find('_');
  require(blank != std::string::npos, ErrorCode::kInvalidInput, where, ": the sentence has no _");
  std::string rest = sentence.substr(blank + 1);
  rest.erase(0, rest.find_first_not_of(' '));
  Question q;
  for (const char* option : {"option1", "option2"})
    q.choices.push_back({sentence.substr(0, blank) + field(row, option, where), " " + rest, rest});
  q.gold = gold_of(row, {"answer"}, 1, 2, where);
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

/// Tokens of context and continuation together, so that a merge across the border counts for the continuation.
TokenSequence encode_choice(const Choice& choice, const Tokenizer& tokenizer, std::int64_t context, const std::string& where) {
  std::string before = choice.context, after = choice.continuation;
  const std::size_t kept = before.find_last_not_of(" \n\t\r") + 1;  // spaces at the end go with the continuation
  after.insert(0, before, kept, std::string::npos);
  before.resize(kept);
  const EncodeOptions plain{.add_special_tokens = false};
  const std::vector<std::int32_t> whole = tokenizer.encode(before + after, plain).ids;
  require(whole.size() >= 2, ErrorCode::kInvalidInput, where, ": context and choice are fewer than two tokens");
  std::size_t border = std::min(tokenizer.encode(before, plain).ids.size(), whole.size() - 1);
  border = std::max<std::size_t>(border, 1);
  const std::size_t inputs = whole.size() - 1, dropped = inputs - std::min(inputs, static_cast<std::size_t>(context));
  TokenSequence s;
  s.ids.assign(whole.begin() + static_cast<std::ptrdiff_t>(dropped), whole.end() - 1);
  s.labels.assign(s.ids.size(), -100);
  for (std::size_t i = std::max(border, dropped + 1); i < whole.size(); ++i) s.labels[i - 1 - dropped] = whole[i];
  return s;
}

std::size_t count_characters(const std::string& text) { return unicode::decode(text).size(); }

}  // namespace

std::string clean_hellaswag(std::string text) {
  const auto replace_all = [&](std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
  };
  text.erase(0, std::min(text.find_first_not_of(" \n\t\r"), text.size()));
  text.erase(text.find_last_not_of(" \n\t\r") + 1);
  replace_all(" [title]", ". ");
  for (std::size_t open = 0; (open = text.find('[', open)) != std::string::npos;) {
    const std::size_t close = text.find(']', open);
    if (close == std::string::npos) break;
    text.erase(open, close + 1 - open);
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

ChoiceSet load_choice_task(const std::string& task, const std::filesystem::path& file, const Tokenizer& tokenizer,
                           const Model& model, std::int64_t skip, std::int64_t limit) {
  return make_choice_set(task, read_json_rows(file), file.string(), tokenizer, model.spec.max_position_embeddings, skip, limit);
}

ChoiceSet make_choice_set(const std::string& task, const std::vector<Json>& rows, const std::string& source,
                          const Tokenizer& tokenizer, std::int64_t context, std::int64_t skip, std::int64_t limit) {
  const auto* entry = std::find_if(std::begin(kReaders), std::end(kReaders), [&](const auto& e) { return e.first == task; });
  require(entry != std::end(kReaders), ErrorCode::kUsage, "--task ", task, " is unknown");
  ChoiceSet set;
  const std::size_t begin = static_cast<std::size_t>(skip);
  for (std::size_t i = begin; i < rows.size() && (limit == 0 || i < begin + static_cast<std::size_t>(limit)); ++i) {
    const std::string where = str(source, ": row ", i + 1);
    const Question q = entry->second(rows[i], where);
    ChoiceQuestion question{set.sequences.size(), q.choices.size(), {}, q.gold};
    for (const Choice& choice : q.choices) {
      set.sequences.push_back(encode_choice(choice, tokenizer, context, where));
      question.lengths.push_back(std::max(1.0, static_cast<double>(count_characters(choice.text))));
    }
    set.questions.push_back(std::move(question));
  }
  require(!set.questions.empty(), ErrorCode::kInvalidInput, source, ": no rows left to evaluate");
  return set;
}

}  // namespace quell
