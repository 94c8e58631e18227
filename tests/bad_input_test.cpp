// Bad input ends in one line on stderr that names what is wrong, with exit code 1 or 2; what was
// there stays intact.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;
using quell::testing::run_quell;
using quell::testing::ScratchDir;

using quell::testing::kReviews;

/// A writable copy of the shipped model.
void copy_model(const fs::path& to) {
  for (const auto& entry : fs::directory_iterator(kReviews / "model"))
    fs::copy_file(entry.path(), to / entry.path().filename());
}

std::string quoted(const fs::path& p) { return "'" + p.string() + "'"; }

std::string quantize(const fs::path& model, const fs::path& out, const std::string& more = "") {
  return "quantize " + quoted(model) + " " + quoted(out) + " --calibration " +
         quoted(kReviews / "calibration.tsv") + " --num-samples 16 --quiet " + more;
}

void expect_one_line(const std::string& arguments, int code, const std::string& words) {
  const auto r = run_quell(arguments);
  quell::testing::expect_one_line_error(r, code, words, arguments);
  EXPECT_TRUE(r.out.empty()) << r.out;
}

void edit_config(const fs::path& model, const std::string& key, const Json& value) {
  Json config = read_json_file(model / "config.json");
  if (value.is_null())
    config.erase(key);
  else
    config[key] = value;
  std::ofstream(model / "config.json") << config.dump();
}

TEST(BadInput, Usage) {
  expect_one_line("", 2, "subcommand");
  expect_one_line("frobnicate", 2, "--help");
  expect_one_line("eval " + quoted(kReviews / "model") + " --task nonsense --data x", 2,
                  "nonsense");
  expect_one_line(quantize(kReviews / "model", "/tmp/quell-never", "--recipe nonsense"), 2,
                  "built-in are");
  expect_one_line(quantize(kReviews / "model", "/tmp/quell-never", "--scheme W9A8"), 2, "W9A8");
  expect_one_line("eval " + quoted(kReviews / "model") +
                      " --engine integer --task classification --data " +
                      quoted(kReviews / "eval.tsv"),
                  2, "quell quantize");
  EXPECT_EQ(run_quell("--help").exit_code, 0);
  EXPECT_NE(run_quell("--version").out.find("quell "), std::string::npos);
  EXPECT_EQ(run_quell("inspect " + quoted(kReviews / "model"), "QUELL_ISA=mmx").exit_code, 2);
}

TEST(BadInput, Checkpoints) {
  expect_one_line("inspect /nonexistent", 1, "/nonexistent");
  const auto broken = [](const std::string& words,
                         const std::function<void(const fs::path&)>& damage) {
    const ScratchDir dir;
    copy_model(dir.path());
    damage(dir.path());
    expect_one_line("eval " + quoted(dir.path()) + " --task classification --data " +
                        quoted(kReviews / "eval.tsv"),
                    1, words);
  };
  broken("truncated", [](const fs::path& d) { fs::resize_file(d / "model.safetensors", 5000); });
  broken("not valid JSON", [](const fs::path& d) { std::ofstream(d / "config.json") << "{"; });
  broken("duplicate key",
         [](const fs::path& d) { std::ofstream(d / "config.json") << R"({"a":1,"a":2})"; });
  broken("\"nonsense\" is not supported",
         [](const fs::path& d) { edit_config(d, "model_type", "nonsense"); });
  broken("BertForNonsense",
         [](const fs::path& d) { edit_config(d, "architectures", {"BertForNonsense"}); });
  broken("config.json says", [](const fs::path& d) {
    edit_config(d, "hidden_size", nullptr);
  });  // the default is another size
  broken("config.json says", [](const fs::path& d) { edit_config(d, "intermediate_size", 100); });
  broken("\"bert.encoder.layer.4",
         [](const fs::path& d) { edit_config(d, "num_hidden_layers", 5); });
  broken("hidden_act", [](const fs::path& d) { edit_config(d, "hidden_act", "snake"); });
  broken("does not divide", [](const fs::path& d) { edit_config(d, "num_attention_heads", 5); });
  broken("pickle",
         [](const fs::path& d) { fs::rename(d / "model.safetensors", d / "pytorch_model.bin"); });
  broken("not a plain file name", [](const fs::path& d) {
    fs::rename(d / "model.safetensors", d / "other.safetensors");
    std::ofstream(d / "model.safetensors.index.json")
        << R"({"weight_map":{"w":"../../etc/passwd"}})";
  });
  broken("NaN or infinite", [](const fs::path& d) {
    std::fstream file(d / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-4, std::ios::end);
    const unsigned char nan[] = {0, 0, 0xc0, 0x7f};
    file.write(reinterpret_cast<const char*>(nan), 4);
  });
}

TEST(BadInput, TheModelCardNamesWhatIsMissing) {
  const ScratchDir dir;
  copy_model(dir.path());
  edit_config(dir.path(), "num_hidden_layers", 5);
  const auto r = run_quell("inspect " + quoted(dir.path()) + " --json -");
  EXPECT_EQ(r.exit_code, 0) << r.err;
  const Json card = parse_json(r.out, "card");
  EXPECT_EQ(card["missing_tensors"].size(), 16U) << card["missing_tensors"];
  EXPECT_EQ(card["missing_tensors"][0], "bert.encoder.layer.4.attention.self.query.weight");
  edit_config(dir.path(), "num_hidden_layers", 3);
  EXPECT_EQ(parse_json(run_quell("inspect " + quoted(dir.path()) + " --json -").out,
                       "card")["unused_tensors"]
                .size(),
            16U);
}

TEST(BadInput, CalibrationRecipesAndTokenizers) {
  const ScratchDir dir;
  std::ofstream(dir / "empty.txt") << "";
  std::ofstream(dir / "odd.u16") << "abc";
  std::ofstream(dir / "ids.jsonl") << R"({"input_ids": [1, 99999]})"
                                   << "\n";
  std::ofstream(dir / "broken.jsonl") << "{\n";
  std::ofstream(dir / "table.tsv") << "a\tb\n1\t2\n";
  std::ofstream(dir / "group.yaml")
      << "weights: {granularity: group, group_size: 7}\npasses: [rtn]\n";
  std::ofstream(dir / "alias.yaml") << "a: &x [*x]\n";
  const std::string base = "quantize " + quoted(kReviews / "model") + " " + quoted(dir / "out") +
                           " --quiet --calibration ";
  expect_one_line(base + quoted(dir / "empty.txt"), 1, "holds no data");
  expect_one_line(base + quoted(dir / "odd.u16"), 1, "odd number");
  expect_one_line(base + quoted(dir / "ids.jsonl"), 1, "outside the model's vocabulary");
  expect_one_line(base + quoted(dir / "broken.jsonl"), 1, "broken.jsonl:1");
  expect_one_line(base + quoted(dir / "table.tsv"), 1, "--text-column");
  expect_one_line(base + quoted(dir / "missing.txt"), 1, "missing.txt");
  expect_one_line("bench --random bert-base --shape 8by128", 2, "8x128");
  expect_one_line("bench " + quoted(kReviews / "model"), 2, "nothing to measure");
  expect_one_line("bench " + quoted(dir / "missing") + " --shape 1x8", 1, "missing");
  expect_one_line("bench " + quoted(kReviews / "model") + " --random minilm --shape 1x8", 2,
                  "one of both");
  expect_one_line(
      quantize(kReviews / "model", dir / "out", "--recipe " + quoted(dir / "group.yaml")), 1,
      "does not divide");
  expect_one_line(
      quantize(kReviews / "model", dir / "out", "--recipe " + quoted(dir / "alias.yaml")), 1,
      "anchors");
  expect_one_line(quantize(kReviews / "model", dir / "out", "--ignore '*'"), 1,
                  "nothing to quantize");
  expect_one_line(quantize(kReviews / "model", dir / "out", "--ignore 're:('"), 2,
                  "regular expression");
  const ScratchDir model;
  copy_model(model.path());
  std::ofstream(model / "tokenizer.json")
      << R"({"model":{"type":"Unigram","vocab":[]},"pre_tokenizer":{"type":"Metaspaces"}})";
  expect_one_line("tokenize " + quoted(model.path()) + " " + quoted(dir / "table.tsv"), 1,
                  "Metaspaces");
  EXPECT_FALSE(fs::exists(dir / "out"));
}

TEST(BadInput, TasksAndGeneration) {
  const ScratchDir dir;
  const std::string model = quoted(kReviews / "model") + " ";
  std::ofstream(dir / "ids.txt") << "[1, 2]\n[3, x]\n";
  std::ofstream(dir / "rows.jsonl") << R"({"goal": "a", "sol1": "b", "sol2": "c", "label": 2})"
                                    << "\n";
  std::ofstream(dir / "squad.json") << R"({"data": [{}]})";
  expect_one_line("generate " + model + "--prompt x", 2, "cannot generate text");
  expect_one_line("eval " + model + "--task piqa --data " + quoted(dir / "rows.jsonl"), 1,
                  "\"label\" is not one of the 2 choices");
  expect_one_line("eval " + model + "--task squad --data " + quoted(dir / "squad.json"), 1,
                  "SQuAD's layout");
  expect_one_line("eval " + model + "--task perplexity --protocol lm-eval --data " +
                      quoted(kReviews / "eval.tsv"),
                  2, "running text");
  expect_one_line("eval " + model + "--kl-base " + model + "--task sst2 --data '" +
                      (quell::testing::kReviews / "eval.tsv").string() + "'",
                  2, "--kl-base");
  expect_one_line("eval " + model + "--task summarization --data " + quoted(dir / "rows.jsonl"), 1,
                  "\"document\"");
  expect_one_line("eval " + model + "--task classification --data " +
                      quoted(kReviews / "eval.tsv") + " --probe " +
                      quoted(kReviews / "model" / "model.safetensors"),
                  1, "\"weight\"");
  const auto r = run_quell("detokenize " + model + quoted(dir / "ids.txt"));
  EXPECT_EQ(r.exit_code, 1);
  EXPECT_NE(r.err.find("line 2"), std::string::npos) << r.err;
}

TEST(Commands, DetokenizeUndoesTokenize) {
  const ScratchDir dir;
  std::ofstream(dir / "text.txt")
      << "although the actor remained bright , the case seemed very superb while the battery "
         "seemed "
         "messy and the plot seemed neat but the view looked brilliant .\n\nalthough the actor\n";
  const std::string model = quoted(kReviews / "model") + " ";
  const auto ids = run_quell("tokenize " + model + quoted(dir / "text.txt"));
  EXPECT_EQ(ids.exit_code, 0) << ids.err;
  std::ofstream(dir / "ids.txt") << ids.out;
  EXPECT_EQ(run_quell("detokenize " + model + quoted(dir / "ids.txt")).out,
            "although the actor remained bright, the case seemed very superb while the battery "
            "seemed messy and the plot seemed "
            "neat but the view looked brilliant.\n\nalthough the actor\n");
  const std::string lines =
      run_quell("tokenize " + model + "--details --no-special-tokens " + quoted(dir / "text.txt"))
          .out;
  const Json details = parse_json(lines.substr(0, lines.find('\n')), "first line");
  EXPECT_EQ(details["offsets"][1], Json({9, 12}));
}

TEST(BadInput, OutputsAreNeverHalfWritten) {
  const ScratchDir dir;
  fs::create_directory(dir / "out");
  std::ofstream(dir / "out/precious.txt") << "kept";
  expect_one_line(quantize(kReviews / "model", dir / "out"), 1, "--force");
  EXPECT_EQ(read_text_file(dir / "out/precious.txt"), "kept");
  expect_one_line(quantize(kReviews / "model", "/proc/quell-out"), 1, "/proc/quell-out");
  std::ofstream(dir / "file") << "x";
  expect_one_line(quantize(kReviews / "model", dir / "file"), 1, "not a directory");
  // A full disk: the limit on file size stands for it.
  const auto r =
      run_quell(quantize(kReviews / "model", dir / "out", "--force"), "trap '' XFSZ; ulimit -f 8;");
  EXPECT_EQ(r.exit_code, 1) << r.err;
  EXPECT_NE(r.err.find("disk full"), std::string::npos) << r.err;
  EXPECT_EQ(read_text_file(dir / "out/precious.txt"), "kept");
  for (const auto& entry : fs::directory_iterator(dir.path()))
    EXPECT_TRUE(entry.path().filename().string().find("quell-tmp") == std::string::npos)
        << entry.path();
}

}  // namespace
}  // namespace quell
