#include "quell/cli/program.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "quell/base/error.h"
#include "quell/base/log.h"

namespace quell::cli {
namespace {

void print_message(LogLevel level, const std::string& message) {
  std::fprintf(stderr, "%s%s\n", level == LogLevel::kWarning ? "warning: " : "", message.c_str());
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

void check_json_option(const Command& command, const GlobalOptions& globals) {
  require(command.has_results, ErrorCode::kUsage, "--json: ", command.app->get_name(),
          " has no results to write");
  require(!globals.json_file.empty(), ErrorCode::kUsage,
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

/// Of a signal: a run that is stopped leaves what a killed one leaves, and says so.
void stopped(int signal) {
  static constexpr char kMessage[] = "\nquell: stopped; run the same command to go on\n";
  const bool terminal = isatty(STDERR_FILENO) != 0;  // where a bar stands on the line
  const char* message = terminal ? kMessage : kMessage + 1;
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, message, std::strlen(message));
  ::raise(signal);
}

int run(const std::string& description, std::span<AddCommand* const> add_commands, int argc,
        char** argv) {
  CLI::App app{description, "quell"};
  app.set_version_flag("--version", "quell " QUELL_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  GlobalOptions globals;
  app.add_option("-t,--threads", globals.threads, "Threads; default: what affinity and quota allow")
      ->transform(whole_number(0, 1024));
  app.add_flag("--quiet", globals.quiet, "No messages but errors");
  app.add_flag("-v,--verbose", globals.verbose, "More messages");
  CLI::Option* json = app.add_option("--json", globals.json_file,
                                     "Write results as JSON to this file (-: standard output)");
  std::vector<Command> commands;
  for (AddCommand* add : add_commands) commands.push_back(add(app));
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return fail(std::string(e.what()) + "; see quell --help", 2);
  }
  set_log_sink([&](LogLevel level, const std::string& message) {
    const bool wanted = level == LogLevel::kWarning ||
                        (level == LogLevel::kInfo && !globals.quiet) || globals.verbose;
    if (wanted) print_message(level, message);
  });
  ExecContext ctx(globals.threads);
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

void say_how_to_go_on_when_stopped() {
  struct sigaction action {};
  action.sa_handler = stopped;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the second time it is what it was: the end
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    if (::sigaction(signal, nullptr, &before) == 0 && before.sa_handler != SIG_IGN)
      ::sigaction(signal, &action, nullptr);  // nohup
  }
}

int run_program(const std::string& description, std::span<AddCommand* const> commands, int argc,
                char** argv) {
  keep_standard_descriptors();
  try {
    return run(description, commands, argc, argv);
  } catch (const Error& e) {
    return fail(e.what(), e.code() == ErrorCode::kUsage ? 2 : 1);
  } catch (const std::bad_alloc&) {
    return fail("out of memory", 1);
  } catch (const std::exception& e) {
    return fail(std::string("unexpected: ") + e.what(), 1);
  }
}

}  // namespace quell::cli
