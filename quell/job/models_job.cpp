#include "quell/job/models_job.h"

#include "quell/eval/evaluate.h"
#include "quell/io/json.h"
#include "quell/job/eval_job.h"
#include "quell/job/models_page.h"
#include "quell/model/family.h"
#include "quell/text/tokenizer/class_rules.h"
#include "quell/text/tokenizer/components.h"

namespace quell {
namespace {

std::vector<std::string> split(std::string_view words) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < words.size();) {
    const std::size_t end = std::min(words.find(' ', at), words.size());
    out.emplace_back(words.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::string join(const Json& list) {
  std::string out;
  for (const Json& item : list) out += (out.empty() ? "`" : ", `") + item.get<std::string>() + "`";
  return out;
}

}  // namespace

Json list_models() {
  Json families = Json::array();
  for (const Family* family : all_of(static_cast<const Family*>(nullptr)))
    families.push_back({{"model_type", family->model_type},
                        {"description", family->description},
                        {"architectures", split(family->architectures)}});
  Json components = Json::object();
  for (const auto& [stage, types] : tokenizer_components()) components[stage] = types;
  return {{"families", families}, {"tokenizer", components}, {"tasks", eval_task_names()}};
}

std::string models_markdown() {
  const Json all = list_models();
  std::string out =
      "# What Quell reads\n\nThis page is what `quell models --markdown` prints; a test compares "
      "the two.\n\n## Model families\n\n"
      "| model_type | family | architectures |\n|---|---|---|\n";
  for (const Json& f : all["families"])
    out += "| `" + f["model_type"].get<std::string>() + "` | " +
           f["description"].get<std::string>() + " | " + join(f["architectures"]) + " |\n";
  out +=
      "\nEvery family is compared with transformers on models with random weights (logits, every "
      "hidden state, padding, greedy "
      "generation), and "
      "every pass and the\nexport run on it in a test. Weights: `safetensors`, one file or shards, "
      "F32, F16 or BF16, old tensor "
      "names too.\n\n";
  out += what_is_read_markdown();
  out += "## Tokenizer components\n\n| stage of tokenizer.json | types |\n|---|---|\n";
  for (const auto& [stage, types] : tokenizer_components())
    out += "| `" + stage + "` | " + join(Json(types)) + " |\n";
  out +=
      "\nBPE with dropout is refused.\n\nWithout `tokenizer.json` the class that "
      "`tokenizer_config.json` or `config.json` names "
      "decides "
      "what `vocab.txt`, `vocab.json` with `merges.txt`,\nor a SentencePiece `.model` mean: " +
      join(Json(class_names())) +
      ",\nwith or without \"Fast\"; others are refused by name. [tokenizers.md](tokenizers.md) "
      "says what is read of each file.\n\n"
      "## Evaluation tasks\n\n" +
      join(all["tasks"]) + "; [evaluation.md](evaluation.md) has the definitions.\n";
  return out;
}

}  // namespace quell
