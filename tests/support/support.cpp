#include "tests/support/support.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "quell/text/data/recipe_library.h"

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

namespace {

/// Where `relative` may lie, the first place first.
std::vector<fs::path> places_of(const std::string& relative) {
  const char* variable = std::getenv("QUELL_DATA");
  const fs::path root =
      variable && *variable ? fs::path(variable) : fs::path(QUELL_SOURCE_DIR) / ".." / "shared";
  std::vector<fs::path> places = {root / relative};
  if (relative.starts_with("golden/"))
    places.push_back(fs::path(QUELL_SOURCE_DIR) / "tests" / relative);
  return places;
}

}  // namespace

fs::path find_data(const std::string& relative) {
  std::error_code ec;
  for (const fs::path& place : places_of(relative))
    if (fs::exists(place, ec)) return place;
  return {};
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.f32().data(), b.f32().data(), a.f32().size_bytes()) == 0;
}

std::vector<std::string> case_folders(const std::string& relative) {
  std::set<std::string> names;
  std::error_code ec;
  for (const fs::path& place : places_of(relative))
    for (const auto& entry : fs::directory_iterator(place, ec))
      if (entry.is_directory(ec) && !entry.path().filename().string().starts_with("."))
        names.insert(entry.path().filename());
  if (names.empty()) return {"none"};
  return {names.begin(), names.end()};
}

std::string test_name(const std::string& folder) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string name;
  for (const char c : folder) {
    const auto code = static_cast<unsigned char>(c);
    const bool plain = code < 0x80 && (std::isalnum(code) || c == '_');
    if (plain) {
      name += c;
    } else if (c == '-') {
      name += '_';
    } else {
      name += kDigits[code / 16];
      name += kDigits[code % 16];
    }
  }
  return name;
}

CommandResult run_shell(const std::string& script, const fs::path& dir) {
  const ScratchDir scratch;
  std::ofstream(scratch / "script") << "QUELL='" QUELL_COMMAND "' REVIEWS='" << kReviews.string()
                                    << "'\ncd '" << dir.string() << "'\n"
                                    << script << "\n";
  const std::string command = "timeout 600 bash '" + (scratch / "script").string() + "' >'" +
                              (scratch / "out").string() + "' 2>'" + (scratch / "err").string() +
                              "' </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(scratch / "out"),
          slurp(scratch / "err")};
}

CommandResult run_quell(const std::string& arguments, const std::string& environment) {
  const ScratchDir scratch;
  const std::string command = environment + " timeout 600 '" QUELL_COMMAND "' " + arguments +
                              " >'" + (scratch / "out").string() + "' 2>'" +
                              (scratch / "err").string() + "' </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(scratch / "out"),
          slurp(scratch / "err")};
}

void expect_one_line_error(const CommandResult& result, int code, const std::string& words,
                           const std::string& command) {
  EXPECT_EQ(result.exit_code, code) << command << "\n" << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << command << "\n"
                                                                       << result.err;
  EXPECT_NE(result.err.find(words), std::string::npos) << command << "\n" << result.err;
}

std::vector<TokenSequence> load_sequences(const CalibrationChoice& choice, const Model& model) {
  ThreadPool pool(1);
  return load_calibration(choice, model, pool).sequences;
}

Recipe quick_recipe(const std::string& name) {
  std::string text = quantization_recipes().read(name);
  if (const std::size_t at = text.find("iterations: 1000"); at != std::string::npos)
    text.replace(at, 16, "iterations: 60");
  return parse_recipe(text, name);
}

}  // namespace quell::testing
