// JSON from untrusted files: nlohmann-json with the checks it leaves out.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "quell/io/json_fwd.h"

namespace quell {

/// Parses `text`; `source` names it in messages. Throws Error(kInvalidInput) on a syntax error, a
/// duplicate key or nesting deeper than 128 levels.
Json parse_json(std::string_view text, const std::string& source);

/// Reads and parses a file. Throws Error(kIo) or Error(kInvalidInput).
Json read_json_file(const std::filesystem::path& path);

/// `object[key]` as an integer in [low, high], else Error(kInvalidInput) that names the key.
/// Missing keys give `fallback` where one is passed.
std::int64_t json_int(const Json& object, const std::string& key, std::int64_t low,
                      std::int64_t high);
std::int64_t json_int(const Json& object, const std::string& key, std::int64_t low,
                      std::int64_t high, std::int64_t fallback);
double json_number(const Json& object, const std::string& key, double fallback);
bool json_bool(const Json& object, const std::string& key, bool fallback);
std::string json_string(const Json& object, const std::string& key, const std::string& fallback);

}  // namespace quell
