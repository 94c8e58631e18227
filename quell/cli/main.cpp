// The command `quell`: arguments, exit codes (0 success, 1 failure, 2 usage), and the one place
// where errors end.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/cli/command.h"

namespace {

void print_message(quell::LogLevel level, const std::string& message) {
  std::fprintf(stderr, "%s%s\n", level == quell::LogLevel::kWarning ? "warning: " : "",
               message.c_str());
}

std::string one_line(std::string message) {
  for (char& c : message)
    if (c == '\n' || c == '\r') c = ' ';
  return message;
}

int fail(const std::string& message, int code) {
  std::fprintf(stderr, "quell: %s\n", one_line(message).c_str());
  return code;
}

void check_json_option(const quell::cli::Command& command,
                       const quell::cli::GlobalOptions& globals) {
  quell::require(command.has_results, quell::ErrorCode::kUsage, "--json: ", command.app->get_name(),
                 " has no results to write");
  quell::require(!globals.json_file.empty(), quell::ErrorCode::kUsage,
                 "--json: the path is empty (a variable that is not set?)");
  ::signal(SIGPIPE,
           SIG_IGN);  // a pipe that nobody reads any more is an error like others, with a message
}

/// Where one of the standard descriptors is closed, the next file to be opened would take its
/// number, and what is printed would end in it. What takes its place here can be neither read nor
/// written in that direction.
void keep_standard_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(descriptor, F_GETFD) < 0)
      ::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int run(int argc, char** argv) {
  using namespace quell::cli;
  CLI::App app{
      "Quell: outlier suppression, quantization and integer inference for transformer models and "
      "networks of convolutions",
      "quell"};
  app.set_version_flag("--version", "quell " QUELL_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  GlobalOptions globals;
  app.add_option("-t,--threads", globals.threads, "Threads; default: what affinity and quota allow")
      ->transform(quell::cli::whole_number(0, 1024));
  app.add_flag("--quiet", globals.quiet, "No messages but errors");
  app.add_flag("-v,--verbose", globals.verbose, "More messages");
  CLI::Option* json = app.add_option("--json", globals.json_file,
                                     "Write results as JSON to this file (-: standard output)");
  const Command commands[] = {add_quantize(app), add_eval(app),     add_inspect(app),
                              add_verify(app),   add_tokenize(app), add_detokenize(app),
                              add_generate(app), add_embed(app),    add_classify(app),
                              add_rerank(app),   add_bench(app),    add_models(app),
                              add_recipes(app),  add_report(app)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return fail(std::string(e.what()) + "; see quell --help", 2);
  }
  quell::set_log_sink([&](quell::LogLevel level, const std::string& message) {
    const bool wanted = level == quell::LogLevel::kWarning ||
                        (level == quell::LogLevel::kInfo && !globals.quiet) || globals.verbose;
    if (wanted) print_message(level, message);
  });
  quell::ExecContext ctx(globals.threads);
  if (!globals.quiet) ctx.on_progress = make_progress();
  for (const Command& command : commands) {
    if (!command.app->parsed()) continue;
    if (json->count() > 0) check_json_option(command, globals);
    check_arguments(*command.app, globals);
    return command.run(globals, ctx);
  }
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  keep_standard_descriptors();
  try {
    return run(argc, argv);
  } catch (const quell::Error& e) {
    return fail(e.what(), e.code() == quell::ErrorCode::kUsage ? 2 : 1);
  } catch (const std::bad_alloc&) {
    return fail("out of memory", 1);
  } catch (const std::exception& e) {
    return fail(std::string("unexpected: ") + e.what(), 1);
  }
}
