#include "quell/base/error.h"
#include "quell/text/tokenizer/components.h"

namespace quell {

Vocabulary::Vocabulary(const Json& vocab) {
  require(vocab.is_object() && !vocab.empty(), ErrorCode::kInvalidInput, "tokenizer: vocabulary is not a non-empty object");
  constexpr std::int64_t kMaxId = 1 << 26;
  for (const auto& [token, value] : vocab.items()) {
    require(value.is_number_integer() && value.get<std::int64_t>() >= 0 && value.get<std::int64_t>() < kMaxId,
            ErrorCode::kInvalidInput, "tokenizer: id of token \"", token, "\" is not an integer from 0 to ", kMaxId - 1);
    const auto id = static_cast<std::int32_t>(value.get<std::int64_t>());
    ids.emplace(token, id);
    if (tokens.size() <= static_cast<std::size_t>(id)) tokens.resize(static_cast<std::size_t>(id) + 1);
    tokens[static_cast<std::size_t>(id)] = token;
  }
}

std::optional<std::int32_t> Vocabulary::find(const std::string& token) const {
  const auto it = ids.find(token);
  return it == ids.end() ? std::nullopt : std::optional(it->second);
}

const std::string& Vocabulary::token_of(std::int32_t id) const {
  static const std::string kNone;
  return id >= 0 && static_cast<std::size_t>(id) < tokens.size() ? tokens[static_cast<std::size_t>(id)] : kNone;
}

}  // namespace quell
