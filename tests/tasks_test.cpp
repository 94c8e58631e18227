// Tasks end to end on golden models with a tokenizer of single letters: the answer that the model
// must give is worked out another way, and the task must find it.
#include <gtest/gtest.h>

#include "quell/base/log.h"
#include "quell/engine/generate.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/output_file.h"
#include "quell/job/eval_job.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

/// The model's files, and a tokenizer whose tokens 10... are the letters.
void make_model(const fs::path& golden, const fs::path& dir, const Json& post_processor) {
  for (const char* name : {"config.json", "model.safetensors"})
    fs::create_symlink(fs::absolute(golden / name), dir / name);
  Json vocab = Json::object();
  for (int i = 0; i < 100; ++i) vocab["[" + std::to_string(i) + "]"] = i;
  for (int i = 10; i < 36; ++i) {
    vocab.erase("[" + std::to_string(i) + "]");
    vocab[std::string(1, static_cast<char>('a' + i - 10))] = i;
  }
  const Json tokenizer = {
      {"pre_tokenizer", {{"type", "Whitespace"}}},
      {"model", {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", "[5]"}}},
      {"post_processor", post_processor},
      {"added_tokens", {{{"id", 2}, {"content", "[2]"}, {"special", true}}}}};
  write_text_file(dir / "tokenizer.json", tokenizer.dump());
}

std::map<std::string, double> run(const EvalJob& job) {
  ExecContext ctx(2);
  std::map<std::string, double> values;
  for (const ReportRow& row : run_eval_job(job, ctx).rows)
    values[row.result.metric] = row.result.value;
  return values;
}

TEST(Tasks, SquadFindsTheBestSpanOfTheContext) {
  QUELL_NEED_DATA(golden, "golden/models/bert-qa");
  const quell::testing::ScratchDir dir;
  make_model(golden, dir.path(),
             {{"type", "BertProcessing"}, {"cls", {"[1]", 1}}, {"sep", {"[2]", 2}}});
  const std::string question = "a b", context = "c d e f g h i j";
  ExecContext ctx(2);
  const Model model = load_model(Checkpoint::open(dir.path()));
  const Encoding e = Tokenizer::open(dir.path()).encode_pair(question, context, {.details = true});
  const std::vector<TokenSequence> sequence = {{e.ids, e.type_ids, {}}};
  const std::size_t first = 0;
  ForwardOutputs outputs;
  make_float_model(model)->forward(make_batch(sequence, {&first, 1}, 0), outputs, ctx);
  const auto start = outputs.values.at("start_logits").f32(),
             end = outputs.values.at("end_logits").f32();
  float best = -1e30F;
  std::string answer;
  for (std::size_t s = 0; s < e.ids.size(); ++s)
    for (std::size_t t = s; t < e.ids.size(); ++t)
      if (e.sequence_ids[s] == 1 && e.sequence_ids[t] == 1 && start[s] + end[t] > best) {
        best = start[s] + end[t];
        answer = context.substr(static_cast<std::size_t>(e.offsets[s].begin),
                                static_cast<std::size_t>(e.offsets[t].end - e.offsets[s].begin));
      }
  const auto qa = [&](const std::string& text) {
    return Json{{"question", question}, {"answers", {{{"text", text}}}}};
  };
  const Json squad = {
      {"data", {{{"paragraphs", {{{"context", context}, {"qas", {qa(answer), qa("z z z")}}}}}}}}};
  write_text_file(dir / "squad.json", squad.dump());
  EvalJob job;
  job.model_dir = dir.path();
  job.options.task = "squad";
  job.data.file = dir / "squad.json";
  EXPECT_EQ(run(job), (std::map<std::string, double>{{"exact_match", 50}, {"f1", 50}})) << answer;
}

/// A file of SQuAD with one paragraph.
Json squad_file(const std::string& context,
                const std::vector<std::pair<std::string, std::vector<std::string>>>& questions,
                const std::string& version) {
  Json qas = Json::array();
  for (const auto& [question, answers] : questions) {
    Json list = Json::array();
    for (const std::string& text : answers) list.push_back({{"text", text}, {"answer_start", 0}});
    qas.push_back({{"question", question}, {"answers", list}, {"is_impossible", answers.empty()}});
  }
  return {{"version", version},
          {"data", {{{"paragraphs", {{{"context", context}, {"qas", qas}}}}}}}};
}

class SquadTask : public ::testing::Test {
 protected:
  ~SquadTask() override { set_log_sink({}); }
  /// The metrics of the golden model on `file`; warnings are kept.
  std::map<std::string, double> evaluate(const fs::path& golden, const Json& file,
                                         std::int64_t max_length = 0) {
    const quell::testing::ScratchDir dir;
    make_model(golden, dir.path(),
               {{"type", "BertProcessing"}, {"cls", {"[1]", 1}}, {"sep", {"[2]", 2}}});
    write_text_file(dir / "squad.json", file.dump());
    set_log_sink([this](LogLevel level, const std::string& message) {
      warnings += level == LogLevel::kWarning ? message : "";
    });
    EvalJob job;
    job.model_dir = dir.path();
    job.options.task = "squad";
    job.options.max_seq_length = max_length;
    job.data.file = dir / "squad.json";
    return run(job);
  }
  std::string warnings;
};

TEST_F(SquadTask, QuestionsWithoutAnswersCount) {
  QUELL_NEED_DATA(golden, "golden/models/bert-qa");
  // Whatever the model says of each, the two kinds are measured apart, and the whole is their mean.
  std::vector<std::pair<std::string, std::vector<std::string>>> questions;
  for (char c = 'a'; c <= 'h'; ++c) questions.push_back({std::string(1, c), {}});
  questions.push_back({"a b", {"c", "d e"}});
  const auto values = evaluate(golden, squad_file("c d e f g h", questions, "v2.0"));
  ASSERT_TRUE(values.contains("no_answer_exact_match") && values.contains("has_answer_f1"));
  EXPECT_EQ(values.at("no_answer_exact_match"), values.at("no_answer_f1"));
  EXPECT_NEAR(values.at("exact_match"),
              (8 * values.at("no_answer_exact_match") + values.at("has_answer_exact_match")) / 9,
              1e-9);

  const auto first = evaluate(golden, squad_file("c d e f g h", {{"a b", {"c"}}}, "1.1"));
  EXPECT_FALSE(first.contains("no_answer_exact_match"));
}

TEST_F(SquadTask, QuestionsThatAreTooLongAreLeftOutByName) {
  QUELL_NEED_DATA(golden, "golden/models/bert-qa");
  const std::string letters = "a b c d e f g h i j k l m n";
  const auto values =
      evaluate(golden, squad_file(letters, {{"a", {"zzz"}}, {letters, {"zzz"}}}, "1.1"), 16);
  EXPECT_EQ(values.at("exact_match"), 0);
  EXPECT_NE(warnings.find("1 rows are left out"), std::string::npos) << warnings;
  EXPECT_NE(warnings.find("row 2"), std::string::npos) << warnings;

  // Beside the same question a short context fits as a whole, so it needs no windows.
  warnings.clear();
  (void)evaluate(golden, squad_file("a", {{"a b c d e f g h i j", {"a"}}}, "1.1"), 16);
  EXPECT_EQ(warnings.find("left out"), std::string::npos) << warnings;
}

TEST(Tasks, SummariesAreWhatTheModelGenerates) {
  QUELL_NEED_DATA(golden, "golden/models/bart");
  const quell::testing::ScratchDir dir;
  const Json eos = {{"SpecialToken", {{"id", "[2]"}, {"type_id", 0}}}},
             a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  make_model(golden, dir.path(),
             {{"type", "TemplateProcessing"},
              {"single", {a, eos}},
              {"pair", {a, eos}},
              {"special_tokens", {{"[2]", {{"ids", {2}}}}}}});
  const std::string document = "c d e f g";
  ExecContext ctx(2);
  const Model model = load_model(Checkpoint::open(dir.path()));
  const Tokenizer tokenizer = Tokenizer::open(dir.path());
  const std::vector<TokenSequence> sequence = {{tokenizer.encode(document).ids, {}, {}}};
  const std::size_t first = 0;
  const auto tokens = generate(*make_float_model(model), make_batch(sequence, {&first, 1}, 1),
                               {.max_new_tokens = 6}, ctx);
  const std::string summary = tokenizer.decode(tokens.front());
  ASSERT_FALSE(summary.empty());
  write_text_file(dir / "rows.jsonl",
                  Json({{"document", document}, {"summary", summary}}).dump() + "\n" +
                      Json({{"document", document}, {"summary", "nothing alike"}}).dump() + "\n");
  EvalJob job;
  job.model_dir = dir.path();
  job.options.task = kSummarization;
  job.max_new_tokens = 6;
  job.data.file = dir / "rows.jsonl";
  const auto values = run(job);
  EXPECT_EQ(values.at("rouge1"), 50) << summary;
  EXPECT_EQ(values.at("rougeL"), 50) << summary;
}

}  // namespace
}  // namespace quell
