#include "quell/cli/command.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "quell/base/error.h"

namespace quell::cli {

void add_column_options(CLI::App& app, ColumnChoice& columns) {
  app.add_option("--text-column", columns.text, "Text column, or two, by header name or by number from 1")
      ->delimiter(',')
      ->expected(1, 2);
  app.add_option("--label-column", columns.label, "Label column, by header name or by number from 1");
}

void add_eval_options(CLI::App& app, EvalOptions& options) {
  app.add_option("--protocol", options.protocol,
                 "Perplexity: gptq (windows scored inside), windows (targets shifted by one; default), "
                 "llama.cpp (second halves) or lm-eval (documents, per word)")
      ->check(CLI::IsMember({"gptq", "windows", "llama.cpp", "lm-eval"}));
  app.add_option("--window", options.window, "Perplexity: tokens a window; default 2048 (llama.cpp: 512), or the model's context")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--limit", options.limit, "Rows or windows at most; 0: all")->check(CLI::NonNegativeNumber);
  app.add_option("--probe", options.probe,
                 "Classification: a linear probe on the encoder (.safetensors) instead of the model's own head");
  app.add_option("--skip", options.skip, "Rows or windows left out at the beginning")->check(CLI::Range(0, 1 << 30));
}

void print(const std::string& text) {
  const bool ok = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  require(ok, ErrorCode::kIo, "cannot write to standard output");
}

bool write_json(const GlobalOptions& globals, const Json& json) {
  if (globals.json_file.empty()) return false;
  if (globals.json_file != "-") {
    write_json_file(globals.json_file, json);
    return false;
  }
  print(json.dump(2) + "\n");
  return true;
}

ProgressSink make_progress() {
  struct State {
    std::string stage;
    std::chrono::steady_clock::time_point start, last;
  };
  const auto state = std::make_shared<State>();
  const bool terminal = isatty(STDERR_FILENO) != 0;
  return [state, terminal](const std::string& stage, std::int64_t done, std::int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (stage != state->stage) *state = {stage, now, now - std::chrono::hours(1)};
    const auto pause = terminal ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
    if (done < total && now - state->last < pause) return;
    state->last = now;
    const double spent = std::chrono::duration<double>(now - state->start).count();
    const double left = done > 0 ? spent / static_cast<double>(done) * static_cast<double>(total - done) : 0;
    if (!terminal) {
      std::fprintf(stderr, "%s: %lld of %lld, %.0f s\n", stage.c_str(), static_cast<long long>(done), static_cast<long long>(total),
                   spent);
    } else {
      const int filled = total > 0 ? static_cast<int>(30 * done / total) : 30;
      std::fprintf(stderr, "\r%-24s [%.*s%*s] %3d%% %5.0f s left ", stage.c_str(), filled, "##############################",
                   30 - filled, "", total > 0 ? static_cast<int>(100 * done / total) : 100, left);
      if (done == total) std::fprintf(stderr, "\n");
    }
    if (done == total) state->stage.clear();
  };
}

}  // namespace quell::cli
