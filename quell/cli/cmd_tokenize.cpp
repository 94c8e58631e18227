#include <fstream>
#include <iostream>

#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/tokenize_job.h"

namespace quell::cli {
namespace {

struct Files {
  ModelDirectory model;
  std::filesystem::path file;
};

void add_files(CLI::App* sub, const std::shared_ptr<Files>& files, const char* what) {
  model_option(*sub, "model", files->model, "Model directory")->required();
  file_option(*sub, "file", files->file, std::string(what) + "; standard input where left out");
}

/// Runs `job(in, out)` on the file or standard input.
template <typename Job>
int with_streams(const std::filesystem::path& file, Job job) {
  std::ios::sync_with_stdio(false);
  if (file.empty() || file == "-") {
    job(std::cin, std::cout);
    require(!std::cin.bad(), ErrorCode::kIo, "cannot read the standard input");
  } else {
    std::ifstream in(file);
    require(in.good(), ErrorCode::kIo, file.string(), ": cannot open");
    job(in, std::cout);
    require(!in.bad(), ErrorCode::kIo, file.string(), ": cannot be read to its end");
  }
  std::cout.flush();
  require(std::cout.good(), ErrorCode::kIo, "cannot write to standard output");
  return 0;
}

}  // namespace

Command add_tokenize(CLI::App& app) {
  CLI::App* sub =
      app.add_subcommand("tokenize", "Print the token ids of each line as a JSON array");
  const auto files = std::make_shared<Files>();
  const auto options = std::make_shared<TokenizeOptions>();
  add_files(sub, files, "Text file");
  sub->add_option("--max-length", options->max_length,
                  "Ids to keep of each line, special tokens included; 0: all")
      ->transform(whole_number(0, kMostRows));
  sub->add_flag("--no-special-tokens{false}", options->add_special_tokens,
                "Leave out the special tokens around the text");
  sub->add_flag("--details", options->details,
                "Print objects with ids, type_ids, tokens and character offsets");
  return {sub,
          [files, options](const GlobalOptions&, ExecContext&) {
            return with_streams(files->file, [&](std::istream& in, std::ostream& out) {
              run_tokenize_job(files->model, *options, in, out);
            });
          },
          false};
}

Command add_detokenize(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("detokenize", "Print the text of each line of token ids");
  const auto files = std::make_shared<Files>();
  const auto flags = std::make_shared<std::pair<bool, bool>>(true, false);
  add_files(sub, files, "File of ids: a JSON array a line, or numbers with spaces between");
  sub->add_flag("--special-tokens{false}", flags->first, "Show special tokens too");
  sub->add_flag("--escape", flags->second,
                "Write line breaks inside a text as \\n and backslashes as \\\\");
  return {sub,
          [files, flags](const GlobalOptions&, ExecContext&) {
            return with_streams(files->file, [&](std::istream& in, std::ostream& out) {
              run_detokenize_job(files->model, flags->first, flags->second, in, out);
            });
          },
          false};
}

}  // namespace quell::cli
