// The commands train and distill from the shell: what they write, how they go on after a kill, and
// what they refuse.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/model/model.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

using quell::testing::CommandResult;
using quell::testing::expect_one_line_error;
using quell::testing::kReviews;
using quell::testing::run_quell;
using quell::testing::run_shell;
using quell::testing::ScratchDir;

const std::string kModel = (kReviews / "model-plain").string();
const std::string kRows = " --data " + (kReviews / "calibration.tsv").string() + " --eval-data " +
                          (kReviews / "eval.tsv").string() + " --eval-limit 200";
const std::string kQuick = " --steps 6 --batch-size 16 --threads 1 --quiet";

CommandResult train(const std::string& arguments) { return run_quell("train " + arguments); }
CommandResult distill(const std::string& arguments) { return run_quell("distill " + arguments); }

TEST(TrainCommand, ATernaryStudentIsWrittenReadBackAndMeasured) {
  const ScratchDir scratch;
  const std::string out = (scratch / "out").string();
  const CommandResult result =
      distill(kModel + " " + out + " --recipe kd-qat --task classification" + kRows + kQuick +
              " --json " + (scratch / "r.json").string());
  ASSERT_EQ(result.exit_code, 0) << result.err;

  const Json run = Json::parse(read_text_file(scratch / "out/training/run.json"));
  EXPECT_TRUE(run["deployment"]["engines_agree"].get<bool>());
  EXPECT_LE(run["deployment"]["share"].get<double>(), 1e-4);
  EXPECT_GT(run["deployment"]["codes"].get<std::int64_t>(), 10000);
  EXPECT_GT(run["deployment"]["rows"].get<std::int64_t>(), 1000);
  EXPECT_FALSE(fs::exists(scratch / "out.training"));

  // What the command reports of the integer engine is what quell eval finds.
  const CommandResult eval =
      run_quell("eval " + out + " --task classification --data " +
                (kReviews / "eval.tsv").string() + " --limit 200 --quiet --json -");
  ASSERT_EQ(eval.exit_code, 0) << eval.err;
  const double accuracy = Json::parse(eval.out)["results"][0]["value"];
  bool found = false;
  const Json report = Json::parse(read_text_file(scratch / "r.json"));
  for (const Json& row : report["results"]) {
    if (row["engine"] != "integer" || row["metric"] != "accuracy") continue;
    found = true;
    EXPECT_EQ(row["value"].get<double>(), accuracy);
  }
  EXPECT_TRUE(found);
}

TEST(TrainCommand, AStoppedRunEndsWithTheBytesOfOneThatWasNot) {
  const ScratchDir scratch;
  // The signal falls wherever training happens to be.
  const std::string script = R"(
    go() { exec "$QUELL" distill "$REVIEWS/model-plain" $1 --recipe ternarybert --task classification --data "$REVIEWS/calibration.tsv" \
             --eval-data "$REVIEWS/eval.tsv" --eval-limit 50 --steps 12 --eval-every 5 --batch-size 8 --threads 1 --checkpoint-every 1 --quiet; }
    (go whole) || exit 1
    kills=0
    for pause in 0.3 0.6 0.9 1.2 1.5; do
      (go killed) & pid=$!
      sleep $pause
      kill -9 $pid 2>/dev/null && kills=$((kills + 1))
      wait $pid
      [ -d killed ] && break
    done
    [ -d killed ] || (go killed) || exit 1
    echo "$kills kills"
    [ $kills -gt 0 ] && cmp whole/model.safetensors killed/model.safetensors && cmp whole/training/metrics.jsonl killed/training/metrics.jsonl
  )";
  const CommandResult result = run_shell(script, scratch.path());
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
}

TEST(TrainCommand, AnEncoderGetsAHeadAndFewerLayers) {
  const ScratchDir scratch;
  // From a checkpoint whose config.json says that there is no head: its tensors are left over.
  fs::copy(kModel, scratch / "encoder", fs::copy_options::recursive);
  Json config = Json::parse(read_text_file(scratch / "encoder/config.json"));
  config["architectures"] = {"BertModel"};
  write_text_file(scratch / "encoder/config.json", config.dump());
  // A sentence model: with its modules the classifier would be measured as one.
  write_text_file(scratch / "encoder/modules.json",
                  R"([{"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                      {"name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])");
  fs::create_directory(scratch / "encoder/1_Pooling");
  write_text_file(scratch / "encoder/1_Pooling/config.json",
                  R"({"word_embedding_dimension": 96, "pooling_mode_mean_tokens": true})");
  const CommandResult tuned =
      train((scratch / "encoder").string() + " " + (scratch / "tuned").string() +
            " --task classification" + kRows + kQuick);
  ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  EXPECT_EQ(load_model(Checkpoint::open(scratch / "tuned")).spec.head,
            Head::kSequenceClassification);
  EXPECT_FALSE(fs::exists(scratch / "tuned/modules.json"));
  EXPECT_FALSE(fs::exists(scratch / "tuned/1_Pooling"));

  const CommandResult shallow = distill(
      kModel + " " + (scratch / "shallow").string() +
      " --recipe ternarybert --layers 2 --layer-map 1,3 --task classification" + kRows + kQuick);
  ASSERT_EQ(shallow.exit_code, 0) << shallow.err;
  const Model student = load_model(Checkpoint::open(scratch / "shallow"));
  EXPECT_EQ(student.graph.stacks.front().layers, 2);
  EXPECT_TRUE(student.is_quantized());
}

TEST(TrainCommand, AClassifierBecomesAModelOfNumbersWithANewHead) {
  const ScratchDir scratch;
  const std::string numbers = " --task regression --text-column sentence --label-column label" +
                              std::string(kRows) + kQuick;
  const CommandResult kept = train(kModel + " " + (scratch / "kept").string() + numbers);
  expect_one_line_error(kept, 1, "--new-head", "regression with the old head");

  const CommandResult made =
      train(kModel + " " + (scratch / "made").string() + " --new-head" + numbers);
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const Model model = load_model(Checkpoint::open(scratch / "made"));
  EXPECT_EQ(model.config->at("num_labels"), 1);
}

TEST(TrainCommand, RandomWeightsLearn) {
  const ScratchDir scratch;
  const CommandResult result =
      train(kModel + " " + (scratch / "out").string() + " --config --task classification" + kRows +
            " --steps 30 --batch-size 16 --learning-rate 0.001 --log-every 1 --threads 1 --quiet");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::istringstream lines(read_text_file(scratch / "out/training/metrics.jsonl"));
  double first = 0, last = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json json = Json::parse(line);
    if (!json.contains("loss")) continue;
    last = json["loss"];
    if (first == 0) first = last;
  }
  EXPECT_LT(last, first);
}

TEST(TrainCommand, BadInputIsOneLine) {
  const ScratchDir scratch;
  const std::string out = " " + (scratch / "out").string();
  const std::string data = " --data " + (kReviews / "calibration.tsv").string();
  write_text_file(scratch / "empty.tsv", "sentence\tlabel\n");
  write_text_file(scratch / "labels.tsv", "sentence\tlabel\ngood\t1\nbad\t7\n");
  write_text_file(scratch / "nf3.yaml",
                  "quantizers: {weights: {nf3: {group_size: 32}}}\nobjective: [labels]\n");
  const auto refused = [&](const std::string& arguments, int code, const std::string& words) {
    expect_one_line_error(run_quell(arguments), code, words, arguments);
    EXPECT_FALSE(fs::exists(scratch / "out")) << arguments;
  };

  refused("distill " + kModel + out + " --recipe no-such --task classification" + data, 2,
          "unknown");
  refused("train " + kModel + out + " --recipe kd_qat --task classification" + data, 2, "teacher");
  refused(
      "train " + kModel + out + " --task classification --data " + (scratch / "empty.tsv").string(),
      1, "no data");
  refused("train " + kModel + out + " --task classification --data " +
              (scratch / "labels.tsv").string(),
          1, "label 7");
  refused("train " + kModel + out + " --task classification" + data + " --eval-data " +
              (scratch / "labels.tsv").string(),
          1, "row 2 has label 7");
  refused("distill " + kModel + out + " --recipe kd_qat --task causal-lm" + data, 1,
          "not supported");
  refused("distill " + kModel + out + " --recipe kd_qat --layers 9 --task classification" + data, 1,
          "layers");
  refused("distill " + kModel + out + " --recipe kd_qat --scheme W4A8 --task classification" + data,
          2, "W4A8");
  refused("train " + kModel + out + " --recipe " + (scratch / "nf3.yaml").string() +
              " --task classification" + data,
          1, "no form in a file");
  refused("train " + kModel + out + " --recipe best --task classification" + data, 2,
          "is for quell quantize");
  refused("train " + kModel + out + " --task classification --epochs 1 --steps 3" + data, 2,
          "--epochs");
}

}  // namespace
}  // namespace quell
