// Arguments of every command: numbers, folders in the place of files, patterns, empty prompts.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

#include "quell/base/error.h"
#include "quell/compress/ignored.h"
#include "quell/compress/site.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/safetensors.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;
using quell::testing::CommandResult;
using quell::testing::kReviews;
using quell::testing::run_quell;
using quell::testing::run_shell;
using quell::testing::ScratchDir;

const std::string kModel = " '" + (kReviews / "model").string() + "' ";

void expect_refused(const std::string& arguments, int code, const std::string& words) {
  const CommandResult r = run_quell(arguments);
  quell::testing::expect_one_line_error(r, code, words, arguments);
  EXPECT_LT(r.err.size(), 400U) << r.err;
}

/// Every option that takes a whole number: what every command's help shows with a range, so that
/// none is left out.
TEST(Arguments, NumbersOutOfRangeAreUsageErrors) {
  std::size_t options = 0;
  for (const char* command :
       {"quantize", "eval", "inspect", "verify", "tokenize", "generate", "bench", "report"}) {
    std::istringstream help(run_quell(std::string(command) + " --help").out);
    for (std::string line; std::getline(help, line);) {
      const std::size_t name = line.find("--"),
                        type = std::min(line.find(" INT"), line.find(" UINT"));
      if (name == std::string::npos || type == std::string::npos) continue;
      const std::string option = line.substr(name, line.find_first_of(" ,", name) - name);
      if (option == "--max-memory") continue;
      ++options;
      for (const char* number :
           {"-1", "99999999999999999999", "1.5", "nan", "1e2", "0x10", "''", "two", "' 1'"})
        expect_refused(std::string(command) + " " + option + " " + number, 2, option);
    }
  }
  EXPECT_GE(options, 25U);
}

TEST(Arguments, OtherNumbersOutOfRange) {
  for (const char* number : {"-1", "nan", "inf", "1e400", "2,5", "two"}) {
    for (const char* option : {"--temperature", "--top-p"})
      expect_refused(std::string("generate m ") + option + " " + number, 2, option);
    expect_refused(std::string("verify m r --tolerance ") + number, 2, "--tolerance");
  }
  for (const char* size : {"-1", "0", "1.5GiB", "8Q", "99999999999GiB", "nan"})
    expect_refused("quantize" + kModel + "out --calibration c --max-memory " + size, 2,
                   "--max-memory");
  for (const char* shape :
       {"4294967296x4294967296", "5000x5000", "0x8", "8", "8x", "x8", "-8x-8", "8x8x8", "1.5x8"})
    expect_refused("bench" + kModel + "--shape " + shape, 2, "--shape");
  expect_refused("bench" + kModel + "--generate 1000000 --sequences 1024", 2, "together");
  expect_refused("eval" + kModel + "--limit -1", 2, "must not be negative");
}

TEST(Arguments, DigitsAreDecimal) {
  const CommandResult r =
      run_quell("eval" + kModel + "--task classification --json - --limit 010 --data '" +
                (kReviews / "eval.tsv").string() + "'");
  EXPECT_EQ(Json::parse(r.out).at("results").at(0).at("samples"), 10);
}

TEST(Arguments, OptionsOfAnotherTaskAreRefused) {
  const std::string data = " '" + (kReviews / "eval.tsv").string() + "' ";
  for (const char* option : {"--window 64", "--protocol gptq"})
    expect_refused("eval" + kModel + "--task classification " + option + " --data" + data, 2,
                   "perplexity");
  for (const char* option : {"--limit 5", "--skip 5", "--window 64"})
    expect_refused("quantize" + kModel + "out " + option + " --calibration" + data, 2,
                   "--eval-task");
  expect_refused("eval" + kModel + "--task perplexity --kl-base a --reference b --data" + data, 2,
                 "--kl-base");
}

TEST(Arguments, SkippingEverythingIsSaid) {
  QUELL_NEED_DATA(dir, "golden/models/llama");
  const ScratchDir scratch;
  std::string ids;
  for (int i = 0; i < 400; ++i) ids += std::string{static_cast<char>(3 + i % 90), '\0'};
  write_text_file(scratch / "ids.u16", ids);
  const std::string command = "eval '" + dir.string() + "' --task perplexity --window 32 --data '" +
                              (scratch / "ids.u16").string() + "' ";
  expect_refused(command + "--skip 1000", 2, "--skip 1000 leaves nothing of the 12 windows");
  expect_refused("eval" + kModel + "--task classification --skip 100000 --data '" +
                     (kReviews / "eval.tsv").string() + "'",
                 1, "no rows left");
}

TEST(Arguments, AFolderIsNoFile) {
  const ScratchDir dir;
  const std::string folder = "'" + dir.path().string() + "'",
                    file = "'" + (kReviews / "eval.tsv").string() + "'";
  expect_refused("tokenize" + kModel + folder, 1, "is a folder");
  expect_refused("detokenize" + kModel + folder, 1, "is a folder");
  expect_refused("verify" + kModel + folder, 1, "is a folder");
  expect_refused("eval" + kModel + "--task classification --data " + folder, 1, "is a folder");
  expect_refused("eval" + kModel + "--task classification --data " + file + " --probe " + folder, 1,
                 "is a folder");
  expect_refused("inspect" + kModel + "--calibration " + folder, 1, "is a folder");
  expect_refused("bench" + kModel + "--text " + folder, 1, "is a folder");
  for (const char* command : {"quantize", "report"}) {
    const std::string begin = command + kModel + "'" + (dir / "out").string() + "' --calibration ";
    expect_refused(begin + folder, 1, "is a folder");
    expect_refused(begin + file + " --recipe " + folder, 1, dir.path().string());
    expect_refused(begin + file + " --eval-task classification --eval-data " + folder, 1,
                   "is a folder");
  }
  expect_refused("inspect " + file, 1, "not a directory");
  const CommandResult input = run_shell("$QUELL tokenize $REVIEWS/model <.", dir.path());
  EXPECT_EQ(input.exit_code, 1);
  EXPECT_NE(input.err.find("standard input"), std::string::npos) << input.err;
}

/// Whoever gives an option expects that it changes something.
TEST(Arguments, OptionsWithoutEffectAreRefused) {
  const quell::testing::ScratchDir dir;
  std::ofstream(dir / "t.txt") << "a line\n";
  const std::string text = "'" + (dir / "t.txt").string() + "'",
                    calibration =
                        " --calibration '" + (kReviews / "calibration.tsv").string() + "'";
  expect_refused("generate" + kModel + "--prompt a --top-k 5", 2, "--temperature");
  expect_refused("generate" + kModel + "--prompt a --seed 5", 2, "--temperature");
  expect_refused("eval" + kModel + "--task perplexity --max-seq-length 5 --data " + text, 2,
                 "--window");
  expect_refused("eval" + kModel + "--task perplexity --label-column a --data " + text, 2,
                 "--label-column");
  expect_refused("eval" + kModel + "--task classification --max-new-tokens 5 --data " + text, 2,
                 "--max-new-tokens");
  expect_refused("eval" + kModel + "--task classification --text-column a --data " + text, 2,
                 "--text-column");
  expect_refused("rerank" + kModel + text + " --query a --text-column a", 2, "--text-column");
  expect_refused("quantize" + kModel + "out" + calibration + " --scheme ''", 2, "--scheme");
}

/// By names of the checkpoint and by those that reports print, of a linear and of a site.
TEST(Arguments, IgnorePatternsMeanLinears) {
  const Model model = load_model(Checkpoint::open(kReviews / "model"));
  const std::string layer = "bert.encoder.layer.";
  const auto meant = [&](std::vector<std::string> patterns) {
    Recipe recipe = load_recipe("minmax");
    recipe.ignore = std::move(patterns);
    resolve_ignored(model, recipe);
    const std::vector<std::string> once = recipe.ignore;
    resolve_ignored(model, recipe);
    EXPECT_EQ(recipe.ignore, once) << "names of modules stay what they are";
    return once;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(meant({"layers.0.out_proj"}), Names{layer + "0.attention.output.dense"});
  EXPECT_EQ(meant({layer + "3.output.dense"}), Names{layer + "3.output.dense"});
  EXPECT_EQ(meant({layer + "3.output.dense.weight"}), Names{layer + "3.output.dense"});
  EXPECT_EQ(meant({"layers.1.q_*"}), Names{layer + "1.attention.self.query"})
      << "not its site, which k and v are in too";
  EXPECT_EQ(meant({"layers.1.q_proj+k_proj+v_proj"}).size(), 3U);
  EXPECT_EQ(meant({"re:layers\\.[01]\\.fc1"}),
            (Names{layer + "0.intermediate.dense", layer + "1.intermediate.dense"}));
  EXPECT_EQ(meant({"pooler", "classifier"}), (Names{"bert.pooler.dense", "classifier"}))
      << "linears that stay in float anyway";

  const auto message = [&](const std::string& pattern) -> std::string {
    try {
      meant({"layers.0.fc1", pattern});
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUsage);
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("layers.0.fc3").find("near are layers.0.fc1, layers.0.fc2"), std::string::npos)
      << message("layers.0.fc3");
  for (const char* pattern : {"lm_haed", "bert.encoder.layer.9.*", "", "re:ayers.*",
                              "bert.embeddings.word_embeddings", "fc1"})
    EXPECT_NE(message(pattern).find("no linear"), std::string::npos) << pattern;
}

/// What `quell inspect` and `quell report` print can be passed on.
TEST(Arguments, PrintedNamesAreAccepted) {
  QUELL_NEED_DATA(golden, "golden/models");
  int models = 0;
  for (const auto& entry : fs::directory_iterator(golden)) {
    if (!fs::exists(entry.path() / "model.safetensors")) continue;
    const Model model = load_model(Checkpoint::open(entry.path()));
    ++models;
    for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
      if (!model.graph.node(n).is(op_linear) || model.graph.node(n).param < 0) continue;
      Recipe recipe = load_recipe("minmax");
      recipe.ignore = {model.node_name(n)};
      EXPECT_NO_THROW(resolve_ignored(model, recipe))
          << entry.path() << " " << recipe.ignore.front();
      EXPECT_TRUE(is_ignored(recipe, model.param_of(n).module)) << entry.path();
    }
    for (const bool head : {false, true})
      for (const Site& site : derive_sites(model, {.projections = true, .head = head})) {
        Recipe recipe = load_recipe("minmax");
        recipe.ignore = {site.name};
        EXPECT_NO_THROW(resolve_ignored(model, recipe)) << entry.path() << " " << site.name;
        for (const int n : site.linears)
          EXPECT_TRUE(is_ignored(recipe, model.param_of(n).module))
              << entry.path() << " " << site.name;
      }
  }
  EXPECT_GE(models, 18);
}

TEST(Arguments, GroupsThatDoNotDivideNameTheLinears) {
  const ScratchDir dir;
  std::ofstream(dir / "r.yaml")
      << "weights: {granularity: group, group_size: 64}\npasses: [rtn]\n";  // 96 and 384 columns
  const std::string command =
      "$QUELL quantize $REVIEWS/model out --quiet --recipe r.yaml --calibration "
      "$REVIEWS/calibration.tsv";
  const CommandResult refused = run_shell(command, dir.path());
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("layers.0.q_proj: group size 64 does not divide 96 columns"),
            std::string::npos)
      << refused.err;
  const std::size_t options = refused.err.find("--ignore");
  ASSERT_NE(options, std::string::npos) << refused.err;
  const std::string pasted = refused.err.substr(options, refused.err.find('\n') - options);
  EXPECT_EQ(run_shell(command + " " + pasted, dir.path()).exit_code, 0) << pasted;
}

TEST(Arguments, NothingComparedIsNoSuccess) {
  QUELL_NEED_DATA(model, "golden/models/bert-cls");
  const ScratchDir dir;
  const SafetensorsFile recorded(model / "reference.safetensors");
  std::map<std::string, TensorView> tensors = {{"input_ids", recorded.at("input_ids")},
                                               {"hidden_states.1", recorded.at("hidden_states.1")}};
  Tensor mask(DType::kI32, recorded.at("input_ids").shape());
  std::fill(mask.as<std::int32_t>().begin(), mask.as<std::int32_t>().end(), 0);
  tensors.emplace("attention_mask", mask.view());
  write_safetensors(dir / "masked.safetensors", tensors, {});
  expect_refused("verify '" + model.string() + "' '" + (dir / "masked.safetensors").string() + "'",
                 1, "nothing to compare");
}

TEST(Arguments, NotANumberIsADifference) {
  QUELL_NEED_DATA(model, "golden/models/bert-cls");
  const ScratchDir dir;
  const SafetensorsFile recorded(model / "reference.safetensors");
  Tensor logits = Tensor::copy_of(recorded.at("logits"));
  const auto passes = [&] {
    std::map<std::string, TensorView> tensors = {{"logits", logits.view()}};
    for (const char* name : {"input_ids", "attention_mask", "token_type_ids"})
      tensors.emplace(name, recorded.at(name));
    write_safetensors(dir / "recorded.safetensors", tensors, {});
    return run_quell("verify '" + model.string() + "' '" + (dir / "recorded.safetensors").string() +
                     "'")
               .exit_code == 0;
  };
  EXPECT_TRUE(passes());
  logits.f32().back() = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(passes());
}

/// A decoder with a word a token, every second one with a line break in it.
void make_decoder(const fs::path& from, const fs::path& to, bool begin_token) {
  for (const char* file : {"model.safetensors", "config.json"})
    fs::copy_file(from / file, to / file);
  Json config = read_json_file(to / "config.json");
  if (!begin_token) config.erase("bos_token_id");
  config["eos_token_id"] = nullptr;
  write_text_file(to / "config.json", config.dump());
  Json vocab;
  for (int i = 0; i < config["vocab_size"]; ++i)
    vocab["w" + std::to_string(i) + (i % 2 ? "\n" : "")] = i;
  const Json tokenizer = {{"model", {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", "w0"}}},
                          {"pre_tokenizer", {{"type", "WhitespaceSplit"}}}};
  write_text_file(to / "tokenizer.json", tokenizer.dump());
}

TEST(Generate, EmptyPromptsLineBreaksAndFullContexts) {
  QUELL_NEED_DATA(gpt2, "golden/models/gpt2");  // 32 positions
  const ScratchDir dir;
  fs::create_directory(dir / "m");
  fs::create_directory(dir / "none");
  make_decoder(gpt2, dir / "m", true);
  make_decoder(gpt2, dir / "none", false);

  const CommandResult begin =
      run_shell("$QUELL generate m --prompt '' --max-new-tokens 3", dir.path());
  EXPECT_EQ(begin.exit_code, 0) << begin.err;
  EXPECT_NE(begin.out.find('w'), std::string::npos) << begin.out;
  const CommandResult none = run_shell("$QUELL generate none --prompt ''", dir.path());
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_NE(none.err.find("no begin token"), std::string::npos) << none.err;

  const std::string sampled = "$QUELL generate m --prompt w4 --temperature 5 --seed 1 ";
  const CommandResult plain = run_shell(sampled + "--max-new-tokens 20", dir.path());
  const CommandResult escaped = run_shell(sampled + "--max-new-tokens 20 --escape", dir.path());
  EXPECT_GT(std::count(plain.out.begin(), plain.out.end(), '\n'), 3) << plain.out;
  EXPECT_EQ(std::count(escaped.out.begin(), escaped.out.end(), '\n'), 1) << escaped.out;
  EXPECT_EQ(plain.err.find("full"), std::string::npos) << plain.err;

  const CommandResult full = run_shell(sampled + "--max-new-tokens 1000 --quiet", dir.path());
  EXPECT_EQ(full.exit_code, 0) << full.err;
  EXPECT_NE(full.err.find("context of 32 tokens"), std::string::npos) << full.err;
  EXPECT_EQ(std::count(full.out.begin(), full.out.end(), 'w'), 32)
      << "one prompt token leaves 31 to read, and one more comes";
}

}  // namespace
}  // namespace quell
