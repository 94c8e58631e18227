// Where commands write: special files, links, folders, names that cannot be, and what a run reads
// itself.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;
using quell::testing::CommandResult;
using quell::testing::kReviews;
using quell::testing::run_shell;
using quell::testing::ScratchDir;

const std::string kEval =
    "$QUELL eval $REVIEWS/model --task classification --data $REVIEWS/eval.tsv --limit 5 --quiet ";
const std::string kCalibrate =
    " --recipe minmax --calibration $REVIEWS/calibration.tsv --num-samples 8 --quiet ";

bool is_report(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  return json.is_object() && json.contains("results");
}

/// One line on stderr, nothing on stdout, and the folder as it was.
void expect_refused(const std::string& script, int code, const std::string& words,
                    const fs::path& dir) {
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(dir))
      all.push_back(entry.path().string());
    std::sort(all.begin(), all.end());
    return all;
  };
  const std::vector<std::string> before = names();
  const CommandResult r = run_shell(script, dir);
  quell::testing::expect_one_line_error(r, code, words, script);
  EXPECT_EQ(r.out, "") << script;
  EXPECT_EQ(names(), before) << script;
}

TEST(Outputs, PipesAndDescriptorsAreWrittenTo) {
  const ScratchDir dir;
  const CommandResult fifo = run_shell(
      "mkfifo pipe; (timeout 60 cat pipe >got) & " + kEval + "--json pipe >/dev/null && wait",
      dir.path());
  EXPECT_EQ(fifo.exit_code, 0) << fifo.err;
  EXPECT_TRUE(fs::is_fifo(dir / "pipe"));
  EXPECT_TRUE(is_report(read_text_file(dir / "got"))) << read_text_file(dir / "got");

  for (const char* name : {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}) {
    const CommandResult r = run_shell(kEval + "--json " + name + " | cat", dir.path());
    EXPECT_TRUE(is_report(r.out)) << name << ": " << r.out << r.err;
  }
  // What the descriptor is at, and what stands there already, is the shell's.
  run_shell("echo first >log; " + kEval + "--json /dev/fd/3 3>>log >/dev/null; echo last >>log",
            dir.path());
  const std::string log = read_text_file(dir / "log");
  EXPECT_TRUE(log.starts_with("first\n{") && log.ends_with("}\nlast\n")) << log;
  EXPECT_TRUE(
      is_report(run_shell(kEval + "--json >(cat >&2) >/dev/null; wait; sleep 1", dir.path()).err));
}

TEST(Outputs, DevicesStayDevices) {
  const ScratchDir dir;
  EXPECT_EQ(run_shell("ln -s /dev/null null; " + kEval + "--json null", dir.path()).exit_code, 0);
  EXPECT_TRUE(fs::is_symlink(dir / "null"));
  const CommandResult full = run_shell(kEval + "--json /dev/full", dir.path());
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_NE(full.err.find("No space left"), std::string::npos) << full.err;
  EXPECT_TRUE(fs::is_character_file("/dev/null") && fs::is_character_file("/dev/full"));
}

TEST(Outputs, LinksAreFollowed) {
  const ScratchDir dir;
  fs::create_directories(dir / "elsewhere");
  std::ofstream(dir / "elsewhere/old.json") << "{}";
  fs::create_symlink("elsewhere/old.json", dir / "link");
  fs::create_symlink("elsewhere/new.json", dir / "dangling");
  fs::create_symlink("dangling", dir / "twice");
  EXPECT_EQ(run_shell(kEval + "--json link && " + kEval + "--json twice", dir.path()).exit_code, 0);
  for (const char* name : {"link", "dangling", "twice"})
    EXPECT_TRUE(fs::is_symlink(dir / name)) << name;
  for (const char* name : {"elsewhere/old.json", "elsewhere/new.json"})
    EXPECT_TRUE(is_report(read_text_file(dir / name))) << name;
  EXPECT_EQ(std::distance(fs::directory_iterator(dir / "elsewhere"), {}), 2);

  fs::create_symlink("elsewhere/model", dir / "out");
  for (const char* more : {"", "--force"}) {
    const CommandResult r =
        run_shell("$QUELL quantize $REVIEWS/model out" + kCalibrate + more, dir.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_TRUE(fs::is_symlink(dir / "out"));
    EXPECT_TRUE(fs::exists(dir / "elsewhere/model/config.json"));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(dir / "elsewhere"), {}), 3)
      << "neither journal nor lock";
}

TEST(Outputs, TheWorkingDirectoryIsFilled) {
  const ScratchDir dir;
  for (const char* more : {"", "--force"}) {
    const CommandResult r =
        run_shell("mkdir -p here && cd here && $QUELL quantize $REVIEWS/model ." + kCalibrate +
                      more + " && ls",
                  dir.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_NE(r.out.find("config.json"), std::string::npos) << "seen by whoever stands there";
  }
  EXPECT_EQ(run_shell("mkdir dot && $QUELL quantize $REVIEWS/model dot/." + kCalibrate, dir.path())
                .exit_code,
            0);
  EXPECT_TRUE(fs::exists(dir / "dot/config.json"));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 2);
}

TEST(Outputs, NamesThatCannotBeAreRefusedBeforeAnyWork) {
  const ScratchDir dir;
  std::ofstream(dir / "file") << "x";
  fs::create_symlink("loop", dir / "loop");
  const std::string quantize = "$QUELL quantize $REVIEWS/model ";
  expect_refused(quantize + "\"$UNSET\"" + kCalibrate, 2, "empty", dir.path());
  expect_refused(quantize + "no/such/out" + kCalibrate, 1, "no folder no/such", dir.path());
  expect_refused(quantize + "file" + kCalibrate, 1, "not a directory", dir.path());
  expect_refused(quantize + "file/out" + kCalibrate, 1, "no folder file", dir.path());
  expect_refused(quantize + "loop" + kCalibrate, 1, "circle", dir.path());
  expect_refused(quantize + "/dev/shm" + kCalibrate, 1, "mount point", dir.path());
  expect_refused(quantize + "out --json out/x.json" + kCalibrate, 1, "no folder out", dir.path());
  expect_refused(quantize + "out --json out.journal" + kCalibrate, 2,
                 "lies where out will be written", dir.path());
  expect_refused(kEval + "--json no/such/x.json", 1, "no folder no/such", dir.path());
  expect_refused(kEval + "--json \"$UNSET\"", 2, "empty", dir.path());
  expect_refused(kEval + "--json .", 1, "folder", dir.path());
  expect_refused(kEval + "--json x.json/", 1, "folder", dir.path());
  expect_refused("$QUELL report $REVIEWS/model ." + kCalibrate, 1, "folder", dir.path());
  expect_refused("$QUELL report $REVIEWS/model p.html --json ./p.html" + kCalibrate, 2,
                 "lies where p.html", dir.path());
  expect_refused("$QUELL generate $REVIEWS/model --prompt x --json y.json", 2, "no results",
                 dir.path());
}

TEST(Outputs, FoldersThatMayNotBeWrittenAreRefusedBeforeAnyWork) {
  if (::geteuid() == 0) GTEST_SKIP() << "the superuser may write everywhere";
  const ScratchDir dir;
  fs::create_directory(dir / "closed");
  std::ofstream(dir / "closed.json") << "{}";
  fs::permissions(dir / "closed", fs::perms::owner_read | fs::perms::owner_exec);
  fs::permissions(dir / "closed.json", fs::perms::owner_read);
  expect_refused(kEval + "--json closed/x.json", 1, "Permission denied", dir.path());
  expect_refused(kEval + "--json closed.json", 1, "Permission denied", dir.path());
  for (const char* out : {"closed", "closed/out"})
    expect_refused(std::string("$QUELL quantize $REVIEWS/model ") + out + kCalibrate, 1,
                   "Permission denied", dir.path());
}

TEST(Outputs, WhatARunReadsIsNotReplaced) {
  const ScratchDir dir;
  fs::create_directories(dir / "store/model");
  fs::create_directories(dir / "linked");
  for (const auto& entry : fs::directory_iterator(kReviews / "model")) {
    fs::copy_file(entry.path(), dir / "store/model" / entry.path().filename());
    fs::create_symlink(dir / "store/model" / entry.path().filename(),
                       dir / "linked" / entry.path().filename());
  }
  fs::copy_file(kReviews / "calibration.tsv", dir / "store/calibration.tsv");
  fs::create_directory_symlink("store/model", dir / "model");
  const std::string small = " --recipe minmax --num-samples 8 --quiet --force --calibration ",
                    data = "$REVIEWS/calibration.tsv";
  const auto refused = [&](const std::string& arguments, const std::string& words) {
    expect_refused("$QUELL quantize " + arguments, 2, words, dir.path());
  };
  refused("model model" + small + data, "would replace");
  refused("store/model model/" + small + data, "would replace");
  refused("model store/../store/model" + small + data, "would replace");
  refused("linked store/model" + small + data, "would replace");
  refused("store/model store" + small + data, "would replace");
  refused("$REVIEWS/model store" + small + "store/calibration.tsv", "would replace");
  refused("model model/int8" + small + data, "lies in the model directory");
  refused("model model" + small + data + " --dry-run", "would replace");
  expect_refused("cd store/model && $QUELL quantize . ." + small + data, 2, "would replace",
                 dir.path());
  expect_refused(
      "$QUELL eval model --task classification --data store/calibration.tsv --json "
      "store/calibration.tsv --quiet",
      2, "would replace", dir.path());
  expect_refused("$QUELL report model store/model/config.json" +
                     std::string(" --recipe minmax --quiet --calibration ") + data,
                 2, "would replace", dir.path());
}

TEST(Outputs, EmbeddingsDoNotReplaceWhatTheyComeFrom) {
  const ScratchDir dir;
  fs::copy(kReviews / "model", dir / "model", fs::copy_options::recursive);
  std::ofstream(dir / "t.jsonl") << "{\"text\": \"a fine place\"}\n";
  fs::create_symlink("t.jsonl", dir / "link.jsonl");
  for (const char* output : {"t.jsonl", "./t.jsonl", "link.jsonl", "model/model.safetensors"})
    expect_refused(std::string("$QUELL embed model t.jsonl --output ") + output, 2, "would replace",
                   dir.path());
  expect_refused("$QUELL embed model t.jsonl --format npy --output model/config.json", 2,
                 "would replace", dir.path());
  EXPECT_EQ(run_shell("$QUELL embed model t.jsonl --output out.jsonl", dir.path()).exit_code, 0);
}

/// A file that takes the number of a closed descriptor would be written to by whatever is printed.
TEST(Outputs, ClosedStandardDescriptorsReachNoFile) {
  const ScratchDir dir;
  const CommandResult r = run_shell(kEval + "--json x.json >&-", dir.path());
  EXPECT_EQ(r.exit_code, 1);
  EXPECT_NE(r.err.find("standard output"), std::string::npos) << r.err;
  EXPECT_TRUE(is_report(read_text_file(dir / "x.json")));
}

/// Whichever comes second ends at once, and what the first writes is what it would have written
/// alone.
TEST(Outputs, OneRunAnOutput) {
  const ScratchDir dir;
  const std::string slow =
      " --recipe best --scheme W6A6 --calibration $REVIEWS/calibration.tsv --num-samples 24 "
      "--quiet";
  const CommandResult r =
      run_shell("$QUELL quantize $REVIEWS/model alone" + slow +
                    " || exit 9\n$QUELL quantize $REVIEWS/model out" + slow +
                    " &\nfirst=$!\nuntil [ -d out.journal ]; do sleep 0.01; done\n" +
                    "ln -s out link\n$QUELL quantize $REVIEWS/model link" + kCalibrate +
                    "; echo second $?\nwait $first; echo first $?\n",
                dir.path());
  EXPECT_EQ(r.out, "second 1\nfirst 0\n") << r.err;
  EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
  EXPECT_NE(r.err.find("another process is writing it"), std::string::npos) << r.err;
  for (const char* file : {"model.safetensors", "config.json"})
    EXPECT_EQ(read_text_file(dir / "out" / file), read_text_file(dir / "alone" / file)) << file;
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 3) << "alone, out, link";
}

/// Ctrl-C, a stop and a kill leave the same, and the same command goes on from there.
TEST(Outputs, StoppedRunsGoOn) {
  const ScratchDir dir;
  const std::string quantize =
      "$QUELL quantize $REVIEWS/model out --recipe best --scheme W6A6 --calibration "
      "$REVIEWS/calibration.tsv ";
  const std::string sizes = "--num-samples 24 --threads 1 --quiet";
  ASSERT_EQ(run_shell(quantize + sizes + " && mv out whole", dir.path()).exit_code, 0);
  for (const char* signal : {"INT", "TERM", "KILL"}) {
    // A shell lets what it starts in the background ignore Ctrl-C unless it controls jobs.
    const CommandResult r = run_shell(
        "set -m\n" + quantize + sizes +
            " &\nuntil [ -e out.journal/site-3.plan.safetensors ]; do sleep 0.01; done\n" +
            "kill -" + signal + " $!\nwait $!; echo $?\nls -A",
        dir.path());
    const std::string code = std::string(signal) == "INT"    ? "130"
                             : std::string(signal) == "TERM" ? "143"
                                                             : "137";
    EXPECT_EQ(r.out, code + "\n.out.quell-lock\nout.journal\nwhole\n") << r.err;
    if (code != "137") {
      EXPECT_NE(r.err.find("run the same command to go on"), std::string::npos) << r.err;
    }
    const CommandResult again = run_shell(quantize + "--num-samples 24 --threads 2", dir.path());
    EXPECT_EQ(again.exit_code, 0) << again.err;
    EXPECT_NE(again.err.find("going on with"), std::string::npos) << again.err;
    EXPECT_EQ(read_text_file(dir / "out/model.safetensors"),
              read_text_file(dir / "whole/model.safetensors"))
        << signal;
    fs::remove_all(dir / "out");
    EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 1) << signal;
  }
}

}  // namespace
}  // namespace quell
