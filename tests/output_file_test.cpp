// What is written appears whole or not at all, and what killed processes left is cleaned up.
#include "quell/io/output_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

TEST(OutputDirectory, ReplacesInOneStep) {
  const quell::testing::ScratchDir dir;
  for (const char* text : {"old", "new"}) {
    OutputDirectory out(dir / "out", true);
    write_text_file(out.staging() / text, text);
    out.commit();
  }
  EXPECT_EQ(names_in(dir / "out"), Names{"new"});
  EXPECT_THROW(OutputDirectory(dir / "out", false), Error);
  {
    const OutputDirectory never_finished(dir / "out", true);
    write_text_file(never_finished.staging() / "more", "more");
  }
  EXPECT_EQ(names_in(dir / "out"), Names{"new"});
  EXPECT_EQ(names_in(dir / ""), Names{"out"});
}

TEST(OutputFile, LeavesOfKilledProcessesAreRemoved) {
  const quell::testing::ScratchDir dir;
  fs::create_directory(dir / ".out.quell-tmp-4000001");
  write_text_file(dir / ".out.quell-tmp-4000001" / "weights", "half of them");
  for (const char* name :
       {".out.quell-tmp-4000002", ".out.quell-tmp-1x", ".outer.quell-tmp-4000001", ".out"})
    write_text_file(dir / name, "");
  const int other = ::open((dir / ".out.quell-tmp-4000002").c_str(),
                           O_RDONLY);  // as if another process still wrote it
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  {
    OutputDirectory out(dir / "out", false);
    EXPECT_FALSE(fs::exists(dir / ".out.quell-tmp-4000001"));
    EXPECT_THROW(OutputDirectory(dir / "out/", true), Error) << "it is being written";
    EXPECT_TRUE(fs::exists(out.staging()));
  }
  EXPECT_EQ(names_in(dir / ""), (Names{".out", ".out.quell-tmp-1x", ".out.quell-tmp-4000002",
                                       ".outer.quell-tmp-4000001"}));
  ::close(other);
  write_text_file(dir / "out", "a file");
  EXPECT_EQ(names_in(dir / ""),
            (Names{".out", ".out.quell-tmp-1x", ".outer.quell-tmp-4000001", "out"}));
}

}  // namespace
}  // namespace quell
