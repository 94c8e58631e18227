#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/regex.h"

namespace quell {

Vocabulary::Vocabulary(const Json& vocab) {
  require(vocab.is_object() && !vocab.empty(), ErrorCode::kInvalidInput,
          "tokenizer: vocabulary is not a non-empty object");
  constexpr std::int64_t kMaxId = 1 << 26;
  ids.reserve(vocab.size());
  for (const auto& [token, value] : vocab.items()) {
    require(value.is_number_integer() && value.get<std::int64_t>() >= 0 &&
                value.get<std::int64_t>() < kMaxId,
            ErrorCode::kInvalidInput, "tokenizer: id of token \"", token,
            "\" is not an integer from 0 to ", kMaxId - 1);
    const auto id = static_cast<std::int32_t>(value.get<std::int64_t>());
    ids.emplace(token, id);
    if (tokens.size() <= static_cast<std::size_t>(id))
      tokens.resize(static_cast<std::size_t>(id) + 1);
    tokens[static_cast<std::size_t>(id)] = token;
  }
}

std::optional<std::int32_t> Vocabulary::find(const std::string& token) const {
  const auto it = ids.find(token);
  return it == ids.end() ? std::nullopt : std::optional(it->second);
}

const std::string& Vocabulary::token_of(std::int32_t id) const {
  static const std::string kNone;
  return id >= 0 && static_cast<std::size_t>(id) < tokens.size()
             ? tokens[static_cast<std::size_t>(id)]
             : kNone;
}

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  const auto it = object.find(key);
  return it == object.end() ? kNull : *it;
}

std::string type_of(const Settings& stage) { return json_string(stage, "type", ""); }

char32_t read_character(const Settings& json, const char* key, char32_t fallback) {
  const std::string text = json_string(json, key, "");
  const std::u32string decoded =
      text.empty() && fallback ? std::u32string(1, fallback) : unicode::decode(text);
  require(decoded.size() == 1, ErrorCode::kInvalidInput, "tokenizer: \"", key,
          "\" must be one character, it is \"", text, "\"");
  return decoded[0];
}

Regex read_pattern(const Json& json) {
  if (json.is_string()) return Regex::literal(json.get<std::string>());
  require(
      json.is_object() && json.size() == 1 && (json.contains("Regex") || json.contains("String")),
      ErrorCode::kInvalidInput,
      "tokenizer: a pattern must be {\"String\": ...} or {\"Regex\": ...}, and nothing else");
  if (json.contains("Regex")) return Regex(json_string(json, "Regex", ""));
  return Regex::literal(json_string(json, "String", ""));
}

void refuse_component(const char* stage, const std::string& type) {
  throw Error(ErrorCode::kUnsupported,
              str("tokenizer: ", stage, " \"", type, "\" is not supported"));
}

std::vector<std::pair<std::string, std::vector<std::string>>> tokenizer_components() {
  return {{"normalizer", normalizer_types()},
          {"pre_tokenizer", pre_tokenizer_types()},
          {"model", token_model_types()},
          {"post_processor", post_processor_types()},
          {"decoder", decoder_types()}};
}

}  // namespace quell
