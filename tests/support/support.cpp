#include "tests/support/support.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace quell::testing {
namespace fs = std::filesystem;
namespace {

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

}  // namespace

fs::path find_data(const std::string& relative) {
  const char* variable = std::getenv("QUELL_DATA");
  const fs::path root = variable && *variable ? fs::path(variable) : fs::path(QUELL_SOURCE_DIR) / ".." / "shared";
  std::error_code ec;
  if (fs::exists(root / relative, ec)) return root / relative;
  const fs::path own = fs::path(QUELL_SOURCE_DIR) / "tests" / relative;
  return relative.starts_with("golden/") && fs::exists(own, ec) ? own : fs::path();
}

ScratchDir::ScratchDir() {
  std::string pattern = (fs::temp_directory_path() / "quell-test-XXXXXX").string();
  path_ = ::mkdtemp(pattern.data());
}

ScratchDir::~ScratchDir() {
  std::error_code ec;
  fs::permissions(path_, fs::perms::owner_all, ec);
  fs::remove_all(path_, ec);
}

CommandResult run_shell(const std::string& script, const fs::path& dir) {
  const ScratchDir scratch;
  std::ofstream(scratch / "script") << "QUELL='" QUELL_COMMAND "' REVIEWS='" << kReviews.string() << "'\ncd '" << dir.string()
                                    << "'\n"
                                    << script << "\n";
  const std::string command = "timeout 600 bash '" + (scratch / "script").string() + "' >'" + (scratch / "out").string() + "' 2>'" +
                              (scratch / "err").string() + "' </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(scratch / "out"), slurp(scratch / "err")};
}

CommandResult run_quell(const std::string& arguments, const std::string& environment) {
  const ScratchDir scratch;
  const std::string command = environment + " timeout 600 '" QUELL_COMMAND "' " + arguments + " >'" + (scratch / "out").string() +
                              "' 2>'" + (scratch / "err").string() + "' </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(scratch / "out"), slurp(scratch / "err")};
}

}  // namespace quell::testing
