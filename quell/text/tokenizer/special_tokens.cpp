#include "quell/text/tokenizer/special_tokens.h"

#include <algorithm>
#include <tuple>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/components.h"

namespace quell {
namespace {

std::vector<SpecialToken> read_list(const Json& list, const std::string& what) {
  std::vector<SpecialToken> tokens;
  for (const Json& entry : list) tokens.push_back(read_special_token(entry, what));
  return tokens;
}

bool is_named(const std::string& key) {
  return std::any_of(std::begin(kNamedTokens), std::end(kNamedTokens),
                     [&](const char* name) { return key == name; });
}

std::int64_t read_id(const std::string& text, const std::string& what) {
  const bool digits =
      !text.empty() && text.size() <= 9 &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  require(digits, ErrorCode::kInvalidInput, what, ": \"", text, "\" is not a token id");
  return std::stoll(text);
}

/// Keys of an object in a file, in the order of the file, which Json does not keep: new tokens get
/// their ids in it. `section`: the object under this key, "" for the whole.
std::vector<std::string> keys_in_order(const std::string& file, std::string_view section = "") {
  std::vector<std::string> keys;
  std::string outer;
  const auto note = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    if (event != Json::parse_event_t::key) return true;
    const std::string& key = parsed.get_ref<const std::string&>();
    if (depth == 1) outer = key;
    const bool wanted = section.empty() ? depth == 1 : depth == 2 && outer == section;
    if (wanted) keys.push_back(key);
    return true;
  };
  const Json whole = Json::parse(read_text_file(file), note);
  return keys;
}

using NamedTokens = std::vector<std::pair<std::string, SpecialToken>>;

/// As a Python dictionary: a key that is there keeps its place.
void set_token(NamedTokens& tokens, const std::string& key, const SpecialToken& token) {
  const auto same = std::find_if(tokens.begin(), tokens.end(),
                                 [&](const auto& entry) { return entry.first == key; });
  if (same == tokens.end())
    tokens.emplace_back(key, token);
  else
    same->second = token;
}

class Reader {
 public:
  explicit Reader(const ModelDirectory& directory) : directory_(directory) {}

  void read_config(const Settings& config) {
    for (const auto& [key, value] : config.json().items())
      if (is_named(key)) set_named(key, config.value(key), config.file());
    if (has_other_tokens(config.json()))
      for (const std::string& key : keys_in_order(config.file()))
        if (is_other_token(key, config.json()[key]) && is_token(config.json()[key]))
          set_other(key, config.value(key), config.file());

    // The older name counts where the newer one is missing or empty.
    const Json& extra = config.value("extra_special_tokens");
    const Json& older = config.value("additional_special_tokens");
    if (extra.is_object()) {
      set_extra(extra, config.file());
      if (older.is_array())
        out_.additional = read_list(older, config.file() + ": additional_special_tokens");
    } else if (!extra.empty()) {
      out_.extra = read_list(extra, config.file() + ": extra_special_tokens");
    } else if (config.contains("additional_special_tokens")) {
      out_.extra = read_list(older, config.file() + ": additional_special_tokens");
    } else if (config.contains("extra_special_tokens")) {
      out_.extra.emplace();
    }
  }

  void read_added_decoder(const Settings& config) {
    const std::string what = config.file() + ": added_tokens_decoder";
    for (const auto& [id, token] : config.value("added_tokens_decoder").items()) {
      require(token.is_object(), ErrorCode::kInvalidInput, what, ": an entry is not an object");
      out_.added[read_id(id, what)] = read_special_token(token, what);
    }
  }

  void read_special_tokens_map() {
    const Settings map = directory_.read_if_there("special_tokens_map.json");
    for (const auto& [key, value] : map.json().items()) {
      if (is_named(key))
        set_named(key, special(map.value(key)), map.file());
      else if (key == "additional_special_tokens" && value.is_array())
        out_.additional = read_list(map.value(key), map.file() + ": " + key);
      else if (key == "extra_special_tokens" && value.is_array())
        add_extra(map.value(key), map.file() + ": " + key);
      else if (key == "extra_special_tokens" && value.is_object())
        set_extra(map.value(key), map.file());
    }
    if (has_other_tokens(map.json()))
      for (const std::string& key : keys_in_order(map.file()))
        if (is_other_token(key, map.json()[key]))
          set_token(detected_, key,
                    read_special_token(special(map.value(key)), map.file() + ": " + key));
    directory_.finish(map, {});
  }

  void read_added_tokens() {
    const Settings file = directory_.read_if_there("added_tokens.json");
    if (file.json().empty()) return;
    for (const std::string& content : keys_in_order(file.file())) {
      const std::int64_t number = json_int(file, content, 0, 1 << 26);
      SpecialToken token = SpecialToken::with_flags(content);
      token.special = is_special(content);
      token.normalized = !*token.special;
      out_.added[number] = token;
    }
    directory_.finish(file, {});
  }

  void read_added_in_tokenizer(const Json& added) {
    for (const Json& entry : added) {
      if (!entry.is_object()) continue;  // from_json says what is wrong
      out_.added[json_int(entry, "id", 0, 1 << 26)] = read_special_token(entry, "added_tokens");
    }
  }

  /// Beside added_tokens_decoder transformers looks at neither of the older files; what they say
  /// differently is said.
  void compare_older_files() const {
    const Settings map = directory_.read_if_there("special_tokens_map.json");
    for (const auto& [key, value] : map.json().items()) {
      if (!is_named(key) || value.is_null()) continue;
      const SpecialToken token = read_special_token(map.value(key), map.file() + ": " + key);
      const auto stated = out_.named.find(key);
      const bool same = stated != out_.named.end() && stated->second.token &&
                        stated->second.token->content == token.content;
      if (!same) warn_unused(map.file(), key + " \"" + token.content + "\"");
    }
    static constexpr KeyRule kUnused[] = {
        {"*_token"}, {"additional_special_tokens"}, {"extra_special_tokens"}};
    directory_.finish(map, kUnused);

    const Settings file = directory_.read_if_there("added_tokens.json");
    for (const auto& [content, id] : file.json().items()) {
      json_int(file, content, 0, 1 << 26);
      const auto same = [&, text = content](const auto& entry) {
        return entry.second.content == text;
      };
      if (std::none_of(out_.added.begin(), out_.added.end(), same))
        warn_unused(file.file(), "\"" + content + "\"");
    }
    directory_.finish(file, {});
  }

  /// Named tokens take the flags that they have among the added ones.
  TokenSettings finish() {
    out_.model_specific = detected_;
    for (const auto& [key, token] : stated_) set_token(out_.model_specific, key, token);

    for (const auto& [id, added] : out_.added)
      for (auto& [name, named] : out_.named)
        if (named.token && named.token->content == added.content) named.token = added;
    return std::move(out_);
  }

 private:
  static void warn_unused(const std::string& file, const std::string& what) {
    log_once(LogLevel::kWarning,
             file + ": " + what +
                 " is not used: like transformers, Quell takes the tokens of added_tokens_decoder "
                 "in tokenizer_config.json, where there are some");
  }

  /// An object of special_tokens_map.json stands for a special token.
  static Json special(Json value) {
    if (value.is_object()) value["special"] = true;
    return value;
  }

  void set_named(const std::string& key, const Json& value, const std::string& file) {
    NamedToken& named = out_.named[key];
    named.mentioned = true;
    named.file = file;
    named.token.reset();
    if (!value.is_null()) named.token = read_special_token(value, file + ": " + key);
  }

  static bool is_other_token(const std::string& key, const Json& value) {
    return key.ends_with("_token") && !is_named(key) && (value.is_string() || value.is_object());
  }
  static bool has_other_tokens(const Json& object) {
    for (const auto& [key, value] : object.items())
      if (is_other_token(key, value)) return true;
    return false;
  }

  /// In tokenizer_config.json an object has to say that it is a token.
  static bool is_token(const Json& value) {
    return value.is_string() || json_string(value, "__type", "") == "AddedToken";
  }
  /// A string is taken for a token at once; an object becomes one later, as those of
  /// special_tokens_map.json do, and comes first.
  void set_other(const std::string& key, const Json& value, const std::string& file) {
    set_token(value.is_string() ? stated_ : detected_, key,
              read_special_token(value, file + ": " + key));
  }
  void set_extra(const Json& extra, const std::string& file) {
    for (const std::string& key : keys_in_order(file, "extra_special_tokens"))
      set_token(stated_, key, read_special_token(extra[key], file + ": " + key));
  }

  void add_extra(const Json& list, const std::string& what) {
    if (!out_.extra) out_.extra.emplace();
    for (const Json& entry : list) {
      const SpecialToken token = read_special_token(special(entry), what);
      if (std::find(out_.extra->begin(), out_.extra->end(), token) == out_.extra->end())
        out_.extra->push_back(token);
    }
  }

  bool is_special(const std::string& content) const {
    for (const auto& [name, named] : out_.named)
      if (named.token && named.token->content == content) return true;
    const auto same = [&](const SpecialToken& token) { return token.content == content; };
    return out_.extra && std::any_of(out_.extra->begin(), out_.extra->end(), same);
  }

  const ModelDirectory& directory_;
  TokenSettings out_;
  NamedTokens stated_,
      detected_;  ///< with other names than kNamedTokens; transformers sets the latter in front
};

}  // namespace

bool SpecialToken::operator==(const SpecialToken& other) const {
  const auto flags = [](const SpecialToken& t) {
    return std::tuple(t.plain, t.single_word.value_or(false), t.lstrip.value_or(false),
                      t.rstrip.value_or(false), t.is_normalized(), t.is_special());
  };
  return content == other.content && flags(*this) == flags(other);
}

SpecialToken SpecialToken::with_flags(std::string content) {
  SpecialToken token;
  token.content = std::move(content);
  token.plain = false;
  return token;
}

SpecialToken read_special_token(const Json& json, const std::string& what) {
  SpecialToken token;
  if (json.is_string()) {
    token.content = json.get<std::string>();
    return token;
  }
  require(json.is_object() && member(json, "content").is_string(), ErrorCode::kInvalidInput, what,
          " is neither a string nor an object with \"content\"");
  token = SpecialToken::with_flags(json["content"].get<std::string>());

  const auto flag = [&](const char* key) {
    return member(json, key).is_null() ? std::nullopt : std::optional(json_bool(json, key, false));
  };
  token.single_word = flag("single_word");
  token.lstrip = flag("lstrip");
  token.rstrip = flag("rstrip");
  token.normalized = flag("normalized");
  token.special = flag("special");
  return token;
}

TokenSettings read_token_settings(const ModelDirectory& directory, const Settings& config,
                                  const Json& added_in_tokenizer) {
  Reader reader(directory);
  reader.read_config(config);

  // Newer files hold all tokens with their ids in one place; then the older ones do not count.
  if (config.contains("added_tokens_decoder")) {
    reader.read_added_decoder(config);
    reader.compare_older_files();
  } else {
    reader.read_special_tokens_map();
    reader.read_added_tokens();
    reader.read_added_in_tokenizer(added_in_tokenizer);
  }
  return reader.finish();
}

AddedVocabulary::AddedVocabulary(const Json& vocab)
    : vocab_(&vocab), next_(static_cast<std::int64_t>(vocab.size())) {
  if (!vocab.is_array()) return;
  for (std::size_t i = 0; i < vocab.size(); ++i)
    if (vocab[i].is_array() && !vocab[i].empty() && vocab[i][0].is_string())
      pieces_[vocab[i][0].get_ref<const std::string&>()] = static_cast<std::int64_t>(i);
}

std::optional<std::int64_t> AddedVocabulary::find_in_vocabulary(const std::string& content) const {
  if (vocab_->is_object()) {
    const auto found = vocab_->find(content);
    if (found == vocab_->end() || !found->is_number_integer()) return std::nullopt;
    return found->get<std::int64_t>();
  }
  const auto found = pieces_.find(content);
  return found == pieces_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::int64_t> AddedVocabulary::id_of(const std::string& content) const {
  const auto added = index_.find(content);
  return added == index_.end() ? find_in_vocabulary(content) : entries_[added->second].id;
}

void AddedVocabulary::add(const SpecialToken& token) {
  if (token.content.empty()) return;
  const bool special = token.is_special();

  if (const auto known = index_.find(token.content); known != index_.end()) {
    Entry& entry = entries_[known->second];
    entry.token = token;
    entry.special |= special;
    return;
  }
  const std::int64_t id = find_in_vocabulary(token.content).value_or(next_);
  next_ = std::max(next_, id + 1);
  index_[token.content] = entries_.size();
  entries_.push_back({id, token, special});
}

Json AddedVocabulary::list() const {
  std::vector<const Entry*> sorted;
  for (const Entry& entry : entries_) sorted.push_back(&entry);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Entry* a, const Entry* b) { return a->id < b->id; });

  Json list = Json::array();
  for (const Entry* entry : sorted) {
    const SpecialToken& token = entry->token;
    list.push_back({{"id", entry->id},
                    {"content", token.content},
                    {"single_word", token.single_word.value_or(false)},
                    {"lstrip", token.lstrip.value_or(false)},
                    {"rstrip", token.rstrip.value_or(false)},
                    {"normalized", token.is_normalized()},
                    {"special", entry->special}});
  }
  return list;
}

}  // namespace quell
