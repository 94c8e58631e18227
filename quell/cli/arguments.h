// Kinds of arguments: numbers within their range, files and folders. What is wrong with one ends in
// exit code 2 and one line.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

namespace quell {
class ModelDirectory;
}

namespace quell::cli {

/// `what`: how the message begins, with a space behind it.
CLI::Validator not_empty(const std::string& what = "");
/// Decimal digits from `low` to `high`, for Option::transform: no fraction, no overflow, and no
/// octal numbers.
CLI::Validator whole_number(std::int64_t low, std::int64_t high);
CLI::Validator seed();
/// A finite number from `low` to `high`.
CLI::Validator real_number(double low, double high);
/// A whole number of bytes with a unit, such as 8GiB, at least 1.
CLI::Validator byte_size();

/// Rows, windows and samples at most, or left out.
inline constexpr std::int64_t kMostRows = std::numeric_limits<std::int32_t>::max();
/// Tokens of a sequence or window.
inline constexpr std::int64_t kMostTokens = 1 << 24;
/// Samples to calibrate on; tokens to generate.
inline constexpr std::int64_t kMostSamples = 1 << 20;

/// The path of a folder with a model, of a file to read, of something to write. None may be empty.
CLI::Option* model_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                          const std::string& help);
/// The same of the model a command works on, with --accept, which may come several times. `target`
/// is set when the command line has been parsed and must live until then.
CLI::Option* model_option(CLI::App& app, const std::string& name, ModelDirectory& target,
                          const std::string& help);
CLI::Option* file_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                         const std::string& help);
/// A file, or a folder of images.
CLI::Option* data_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                         const std::string& help);
/// Files or folders, one or more.
CLI::Option* data_option(CLI::App& app, const std::string& name,
                         std::vector<std::filesystem::path>& target, const std::string& help);
CLI::Option* output_option(CLI::App& app, const std::string& name, std::filesystem::path& target,
                           const std::string& help);

/// An argument that names something to read.
struct InputArgument {
  std::string option;
  std::filesystem::path path;
  bool is_file = false;        ///< else a model folder
  bool may_be_folder = false;  ///< a file or a folder of images
};
/// Those that were given to `command`.
std::vector<InputArgument> input_arguments(const CLI::App& command);
/// Files and folders that `command` was told to write.
std::vector<std::filesystem::path> output_arguments(const CLI::App& command);

}  // namespace quell::cli
