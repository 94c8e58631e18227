#include "quell/cli/arguments.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/base/exact_text.h"
#include "quell/job/inspect_job.h"

namespace quell::cli {
namespace {

constexpr const char* kFileType = "FILE";
constexpr const char* kDataType = "PATH";
constexpr const char* kModelType = "DIR";
constexpr const char* kOutputType = "OUT";

CLI::Option* path_type(CLI::Option* option, const char* type) {
  return option->check(not_empty("the path "))->type_name(type);
}

CLI::Option* path_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                         const std::string& help, const char* type) {
  const auto take = [&target](const std::string& path) { target = path; };
  return path_type(app.add_option_function<std::string>(name, take, help), type);
}

}  // namespace

CLI::Validator not_empty(const std::string& what) {
  const auto check = [what](const std::string& text) {
    return text.empty() ? what + "is empty (a variable that is not set?)" : std::string();
  };
  return {check, ""};
}

CLI::Validator whole_number(std::int64_t low, std::int64_t high) {
  const auto check = [low, high](std::string& text) -> std::string {
    std::int64_t value = 0;
    const bool whole = parse_whole(text, value);
    if (whole && value >= low && value <= high) {
      text = std::to_string(value);  // without the zeros in front that would make it octal
      return "";
    }
    const bool negative = low >= 0 && text.size() > 1 && text.front() == '-';
    return str(text, negative ? " must not be negative; use" : " is not", " a whole number from ",
               low, " to ", high);
  };
  return {check, str(low, " to ", high)};
}

CLI::Validator seed() { return whole_number(0, std::numeric_limits<std::int64_t>::max()); }

CLI::Validator real_number(double low, double high) {
  const auto check = [low, high](std::string& text) -> std::string {
    double value = 0;
    if (parse_whole(text, value) && std::isfinite(value) && value >= low && value <= high)
      return "";
    return str(text, " is not a number from ", low, " to ", high);
  };
  return {check, str(low, " to ", high)};
}

CLI::Validator byte_size() {
  const auto check = [](std::string& text) -> std::string {
    const std::string wrong =
        text + " is not a size; write a whole number and a unit, such as 8GiB";
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    std::uint64_t value = 0;
    if (!parse_whole(text.substr(0, digits), value) || value == 0) return wrong;
    text = std::to_string(value) + text.substr(digits);
    try {
      return CLI::AsSizeValue(false)(text);
    } catch (const CLI::Error&) {  // an unknown unit, or more than 64 bits
      return wrong;
    }
  };
  return {check, ""};
}

CLI::Option* model_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                          const std::string& help) {
  return path_option(app, name, target, help, kModelType);
}

CLI::Option* model_option(CLI::App& app, const std::string& name, ModelDirectory& target,
                          const std::string& help) {
  struct Parsed {
    std::filesystem::path path;
    std::vector<std::string> accepted;
  };
  const auto parsed = std::make_shared<Parsed>();

  CLI::Option* option = model_option(app, name, parsed->path, help);
  app.add_option("--accept", parsed->accepted,
                 "Go on although this key of a file of the model asks for something that Quell "
                 "does not do; may be repeated")
      ->allow_extra_args(false);
  app.parse_complete_callback(
      [parsed, &target] { target = ModelDirectory(parsed->path, parsed->accepted); });
  return option;
}

CLI::Option* file_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                         const std::string& help) {
  return path_option(app, name, target, help, kFileType);
}

CLI::Option* data_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                         const std::string& help) {
  return path_option(app, name, target, help, kDataType);
}

CLI::Option* data_option(CLI::App& app, const std::string& name,
                         std::vector<std::filesystem::path>& target, const std::string& help) {
  const auto take = [&target](const std::vector<std::string>& paths) {
    target.assign(paths.begin(), paths.end());
  };
  return path_type(app.add_option_function<std::vector<std::string>>(name, take, help), kDataType);
}

CLI::Option* output_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                           const std::string& help) {
  return path_option(app, name, target, help, kOutputType);
}

std::vector<InputArgument> input_arguments(const CLI::App& command) {
  std::vector<InputArgument> inputs;
  for (const CLI::Option* option : command.get_options()) {
    const std::string type = option->get_type_name();
    const bool is_data = type.starts_with(kDataType);
    const bool is_file = type.starts_with(kFileType) || is_data;
    if (!is_file && !type.starts_with(kModelType)) continue;
    for (const std::string& path : option->results())
      inputs.push_back({option->get_name(), path, is_file, is_data});
  }
  return inputs;
}

std::vector<std::filesystem::path> output_arguments(const CLI::App& command) {
  std::vector<std::filesystem::path> outputs;
  for (const CLI::Option* option : command.get_options())
    if (option->get_type_name().starts_with(kOutputType))
      for (const std::string& path : option->results()) outputs.emplace_back(path);
  return outputs;
}

}  // namespace quell::cli
