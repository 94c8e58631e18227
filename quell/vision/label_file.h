// Files that say which class each image belongs to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace quell {

/// Larger class numbers are mistakes.
inline constexpr std::int32_t kMaxClasses = 1 << 20;

struct LabelRow {
  std::string name;                 ///< of the image, '/' between folders
  std::int32_t label = 0;           ///< class, from 0
  std::vector<std::string> others;  ///< further columns, as they stand
  std::size_t line = 0;             ///< of the file, from 1
};

/// Every name once, in the order of the file.
struct LabelFile {
  std::string source;
  std::vector<LabelRow> rows;
};

/// Lines of name, class and perhaps more, between tabs; `source` names them in messages. Throws
/// Error(kInvalidInput) with the line.
LabelFile parse_labels(std::string_view text, const std::string& source);
/// Throws Error(kIo) too.
LabelFile read_labels(const std::filesystem::path& path);

/// For each row the index of its image among `names`. Throws Error(kInvalidInput) where a row has
/// no image or an image no row; `images` says in messages where the names come from.
std::vector<std::int64_t> match_labels(const LabelFile& labels,
                                       const std::vector<std::string>& names,
                                       const std::string& images);

/// Throws Error(kInvalidInput) where a name is empty or has characters that do not print, which no
/// message could repeat.
void check_image_name(const std::string& name, const std::string& source);

}  // namespace quell
