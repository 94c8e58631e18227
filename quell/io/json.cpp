#include "quell/io/json.h"

#include <cmath>
#include <unordered_set>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"

namespace quell {
namespace {

constexpr int kMaxDepth = 128;

const Json* find(const Json& object, const std::string& key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

[[noreturn]] void wrong(const std::string& key, const char* expected, const Json& found) {
  throw Error(ErrorCode::kInvalidInput, str("key \"", key, "\": expected ", expected, ", found ",
                                            found.dump().substr(0, 60)));
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  std::vector<std::unordered_set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    require(depth <= kMaxDepth, ErrorCode::kInvalidInput, source, ": nested deeper than ",
            kMaxDepth, " levels");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key)
      require(keys.back().insert(parsed.get<std::string>()).second, ErrorCode::kInvalidInput,
              source, ": duplicate key \"", parsed.get<std::string>(), '"');
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidInput, source + ": not valid JSON: " + e.what());
  }
}

Json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_text_file(path, std::size_t{512} << 20), path.string());
}

std::int64_t json_int(const Json& object, const std::string& key, std::int64_t low,
                      std::int64_t high) {
  const Json* value = find(object, key);
  require(value, ErrorCode::kInvalidInput, "key \"", key, "\" is missing");
  if (!value->is_number_integer()) wrong(key, "an integer", *value);
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(high))
    wrong(key, str("an integer up to ", high).c_str(), *value);
  const auto n = value->get<std::int64_t>();
  if (n < low || n > high) wrong(key, str("an integer from ", low, " to ", high).c_str(), *value);
  return n;
}

std::int64_t json_int(const Json& object, const std::string& key, std::int64_t low,
                      std::int64_t high, std::int64_t fallback) {
  return find(object, key) ? json_int(object, key, low, high) : fallback;
}

double json_number(const Json& object, const std::string& key, double fallback) {
  const Json* value = find(object, key);
  if (!value) return fallback;
  if (!value->is_number() || !std::isfinite(value->get<double>()))
    wrong(key, "a finite number", *value);
  return value->get<double>();
}

bool json_bool(const Json& object, const std::string& key, bool fallback) {
  const Json* value = find(object, key);
  if (!value) return fallback;
  if (!value->is_boolean()) wrong(key, "true or false", *value);
  return value->get<bool>();
}

std::string json_string(const Json& object, const std::string& key, const std::string& fallback) {
  const Json* value = find(object, key);
  if (!value) return fallback;
  if (!value->is_string()) wrong(key, "a string", *value);
  return value->get<std::string>();
}

JsonBox::JsonBox() : value_(std::make_unique<Json>()) {}
JsonBox::JsonBox(const Json& value) : value_(std::make_unique<Json>(value)) {}
JsonBox::JsonBox(Json&& value) : value_(std::make_unique<Json>(std::move(value))) {}
JsonBox::JsonBox(const JsonBox& other) : JsonBox(*other) {}
JsonBox::JsonBox(JsonBox&& other) noexcept = default;
JsonBox::~JsonBox() = default;

JsonBox& JsonBox::operator=(JsonBox other) noexcept {
  value_ = std::move(other.value_);
  return *this;
}

}  // namespace quell
