// One JSON row of an evaluation task (the first byte chooses which), or SQuAD's file, or text for
// WikiText's clean-up: a scored example, or quell::Error.
#include "quell/base/error.h"
#include "quell/eval/language_tasks.h"
#include "quell/eval/perplexity.h"
#include "quell/eval/rouge.h"
#include "quell/eval/squad.h"
#include "quell/eval/squad_text.h"
#include "quell/io/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using quell::Json;
  static const quell::Tokenizer tokenizer = quell::Tokenizer::from_json(
      {{"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
       {"model",
        {{"type", "WordPiece"}, {"unk_token", "u"}, {"vocab", {{"u", 0}, {"a", 1}, {"##a", 2}}}}}},
      "fuzz");
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto& tasks = quell::choice_task_names();
  const std::size_t choice = data[0] % (tasks.size() + 2);
  try {
    if (choice < tasks.size()) {
      const std::vector<Json> rows = {quell::parse_json(text, "fuzz")};
      if (rows[0].is_object())
        (void)quell::make_choice_set(tasks[choice], rows, "fuzz", tokenizer, 16, 0, 0);
    } else if (choice == tasks.size()) {
      const quell::SquadSet set = quell::parse_squad(quell::parse_json(text, "fuzz"), "fuzz");
      for (const auto& q : set.questions) {
        (void)quell::score_answer(q.question, q.answers, set.version2);
        for (const std::string& answer : q.answers) (void)quell::rouge(q.question, answer);
        (void)tokenizer.encode_pair_windows(q.question, q.question,
                                            {.max_length = 64, .details = true}, 8);
      }
    } else {
      for (const std::string& document : quell::split_wikitext(std::string(text)))
        (void)quell::detokenize_wikitext(document);
    }
  } catch (const quell::Error&) {
  }
  return 0;
}
