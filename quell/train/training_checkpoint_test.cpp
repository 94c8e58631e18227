#include "quell/train/training_checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "tests/support/scratch_dir.h"

namespace quell::train {
namespace {

namespace fs = std::filesystem;

const RunKey kKey = {{"recipe", "a"}, {"threads", "1"}};

TrainingState some_state() {
  TrainingState state;
  state.step = 7;
  state.best_step = 5;
  state.best_score = 0.1;
  state.tensors["weight"] = torch::arange(6, torch::kFloat32).reshape({2, 3});
  return state;
}

class RunDirectories : public ::testing::Test {
 protected:
  template <typename Action>
  std::string refusal_of(const Action& action) const {
    try {
      action();
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  }

  testing::ScratchDir scratch_;
  const fs::path path_ = scratch_ / "run";
};

TEST_F(RunDirectories, GiveBackWhatWasWritten) {
  RunDirectory(path_, kKey).write(some_state());
  const auto state = RunDirectory(path_, kKey).read(false);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->step, 7);
  EXPECT_EQ(state->best_score, 0.1);
  EXPECT_TRUE(state->tensors.at("weight").equal(some_state().tensors.at("weight")));
}

TEST_F(RunDirectories, LeaveAloneWhatIsNotTheirs) {
  fs::create_directory(path_);
  write_text_file(path_ / "thesis.txt", "mine");
  const std::string message = refusal_of([&] { RunDirectory run(path_, kKey); });
  EXPECT_NE(message.find("thesis.txt"), std::string::npos) << message;
  EXPECT_EQ(read_text_file(path_ / "thesis.txt"), "mine");
}

TEST_F(RunDirectories, AreRemovedButForWhatIsNotTheirs) {
  RunDirectory run(path_, kKey);
  run.write(some_state());
  run.add_metrics("{}");
  fs::create_directory(run.teacher_directory());
  write_text_file(path_ / "notes.txt", "mine");
  run.remove();
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), {}), 1);

  fs::remove(path_ / "notes.txt");
  RunDirectory(path_, kKey).remove();
  EXPECT_FALSE(fs::exists(path_));
}

/// Before a checkpoint nothing but the key says whose outputs of a teacher lie there.
TEST_F(RunDirectories, ForgetWhatAnotherRunKeptBeforeItsFirstCheckpoint) {
  const fs::path kept = RunDirectory(path_, kKey).teacher_directory() / "0.safetensors";
  fs::create_directories(kept.parent_path());
  write_text_file(kept, "outputs");
  RunDirectory same(path_, kKey);
  EXPECT_TRUE(fs::exists(kept));
  RunDirectory other(path_, {{"recipe", "b"}, {"threads", "1"}});
  EXPECT_FALSE(fs::exists(kept));
}

TEST_F(RunDirectories, RefuseAnotherRunAndSayWhichDriftIsAllowed) {
  RunDirectory(path_, kKey).write(some_state());
  const RunDirectory other(path_, {{"recipe", "b"}, {"threads", "1"}});
  EXPECT_NE(refusal_of([&] { other.read(true); }).find("value of \"recipe\" (\"a\", now \"b\")"),
            std::string::npos);
  const RunDirectory drifted(path_, {{"recipe", "a"}, {"threads", "2"}});
  EXPECT_NE(refusal_of([&] { drifted.read(false); }).find("--allow-drift"), std::string::npos);
  EXPECT_TRUE(drifted.read(true).has_value());
}

/// Each byte of the numbers and of the tensors' values counts.
TEST_F(RunDirectories, DamagedCheckpointsAreTold) {
  const RunDirectory run(path_, kKey);
  run.write(some_state());
  const fs::path file = path_ / "checkpoint.safetensors";
  const std::string good = read_text_file(file);
  const auto expect_told = [&](std::string bytes) {
    write_text_file(file, bytes);
    EXPECT_NE(refusal_of([&] { run.read(false); }).find("checkpoint"), std::string::npos);
  };

  std::string bytes = good;
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  expect_told(bytes);
  for (const char* number : {"\"step\":\"7\"", "\"best_step\":\"5\""}) {
    bytes = good;
    const std::size_t at = bytes.find(number);
    ASSERT_NE(at, std::string::npos);
    bytes[at + std::string(number).size() - 2] = '6';
    expect_told(bytes);
    bytes[at + std::string(number).size() - 2] = 'x';
    expect_told(bytes);
  }
}

}  // namespace
}  // namespace quell::train
