#include "quell/io/settings.h"

#include <algorithm>
#include <set>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"

namespace quell {
namespace {

const Json kNull;

std::string shortened(const Json& value) {
  constexpr std::size_t kLongest = 60;

  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

/// '*' in `pattern` stands for any characters.
bool matches(std::string_view pattern, std::string_view text) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;

  const std::string_view head = pattern.substr(0, star);
  const std::string_view tail = pattern.substr(star + 1);
  if (!text.starts_with(head)) return false;

  for (std::size_t skipped = head.size(); skipped <= text.size(); ++skipped)
    if (matches(tail, text.substr(skipped))) return true;
  return false;
}

}  // namespace

struct AcceptedKeys::State {
  std::vector<std::string> keys;
  std::set<std::string> met;
};

AcceptedKeys::AcceptedKeys(std::vector<std::string> keys) : state_(std::make_shared<State>()) {
  state_->keys = std::move(keys);
}

void AcceptedKeys::add(const std::string& key) { state_->keys.push_back(key); }

bool AcceptedKeys::accepts(const std::string& key) const {
  const bool found = std::find(state_->keys.begin(), state_->keys.end(), key) != state_->keys.end();
  if (found) state_->met.insert(key);
  return found;
}

const std::vector<std::string>& AcceptedKeys::keys() const { return state_->keys; }

std::vector<std::string> AcceptedKeys::met() const {
  std::vector<std::string> out;
  for (const std::string& key : state_->keys)
    if (state_->met.contains(key) && std::find(out.begin(), out.end(), key) == out.end())
      out.push_back(key);
  return out;
}

struct Settings::Record {
  Json root = Json::object();
  std::string file;
  AcceptedKeys accepted;

  std::set<std::string> read;    ///< values read as a whole
  std::set<std::string> opened;  ///< objects whose keys are read one by one
};

Settings::Settings() : Settings(Json::object()) {}

Settings::Settings(Json root, std::string file, AcceptedKeys accepted)
    : record_(std::make_shared<Record>()) {
  require(root.is_object(), ErrorCode::kInvalidInput, file, file.empty() ? "" : ": ",
          "not a JSON object");

  record_->root = std::move(root);
  record_->file = std::move(file);
  record_->accepted = std::move(accepted);
  object_ = &record_->root;
}

Settings::Settings(std::shared_ptr<Record> record, const Json* object, std::string path)
    : record_(std::move(record)), object_(object), path_(std::move(path)) {}

const std::string& Settings::file() const { return record_->file; }

Settings Settings::with_aliases(std::map<std::string, std::string> aliases) const {
  Settings other = *this;
  other.aliases_ = std::make_shared<const std::map<std::string, std::string>>(std::move(aliases));
  return other;
}

const std::string& Settings::stored_key(const std::string& key) const {
  if (!aliases_ || object_->contains(key)) return key;

  const auto alias = aliases_->find(key);
  return alias != aliases_->end() && object_->contains(alias->second) ? alias->second : key;
}

bool Settings::contains(const std::string& key) const { return object_->contains(stored_key(key)); }

bool Settings::has(const std::string& key) const {
  const auto found = object_->find(stored_key(key));
  return found != object_->end() && !found->is_null();
}

const Json& Settings::value(const std::string& key) const {
  const auto found = object_->find(stored_key(key));
  if (found == object_->end()) return kNull;

  record_->read.insert(full_key(found.key()));
  if (aliases_)
    if (const auto alias = aliases_->find(key);
        alias != aliases_->end() && object_->contains(alias->second))
      record_->read.insert(full_key(alias->second));
  return *found;
}

Settings Settings::section(const std::string& key) const {
  const auto found = object_->find(key);
  if (found == object_->end()) return {};
  if (found->is_null()) {
    record_->read.insert(full_key(key));
    return {};
  }

  require(found->is_object(), ErrorCode::kInvalidInput, "key \"", full_key(key),
          "\": expected an object, found ", shortened(*found));
  record_->opened.insert(full_key(key));
  return {record_, &*found, full_key(key)};
}

std::vector<Settings> Settings::sections(const std::string& key) const {
  const auto found = object_->find(key);
  if (found == object_->end()) return {};
  if (found->is_null()) {
    record_->read.insert(full_key(key));
    return {};
  }

  require(found->is_array(), ErrorCode::kInvalidInput, "key \"", full_key(key),
          "\": expected a list, found ", shortened(*found));
  record_->opened.insert(full_key(key));

  std::vector<Settings> entries;
  for (std::size_t i = 0; i < found->size(); ++i) {
    const std::string path = full_key(key) + "." + std::to_string(i);
    const Json& entry = (*found)[i];
    require(entry.is_object(), ErrorCode::kInvalidInput, "key \"", path,
            "\": expected an object, found ", shortened(entry));
    record_->opened.insert(path);
    entries.push_back({record_, &entry, path});
  }
  return entries;
}

bool Settings::accepts(const std::string& full_key) const {
  return record_->accepted.accepts(full_key);
}

void Settings::refuse(const std::string& key, const std::string& reason) const {
  const Json& found = value(key);
  const std::string name = full_key(key);
  if (accepts(name)) {
    log_once(LogLevel::kWarning, record_->file + ": key \"" + name + "\" (" + shortened(found) +
                                     ") accepted: " + reason);
    return;
  }
  throw Error(ErrorCode::kUnsupported, "key \"" + name + "\" (" + shortened(found) +
                                           "): " + reason + "; --accept " + name +
                                           " goes on without it, with other results");
}

void Settings::collect(const Json& object, const std::string& path,
                       std::vector<Leftover>& out) const {
  const auto visit = [&](const std::string& key, const Json& value) {
    const std::string name = path.empty() ? key : path + "." + key;
    if (record_->read.contains(name)) return;

    if (record_->opened.contains(name))
      collect(value, name, out);
    else
      out.push_back({name, value});
  };

  if (object.is_array()) {
    for (std::size_t i = 0; i < object.size(); ++i) visit(std::to_string(i), object[i]);
    return;
  }
  for (const auto& [key, value] : object.items()) visit(key, value);
}

std::vector<Settings::Leftover> Settings::leftovers() const {
  std::vector<Leftover> out;
  collect(*object_, path_, out);
  return out;
}

std::vector<std::string> Settings::read_keys() const {
  return {record_->read.begin(), record_->read.end()};
}

std::int64_t json_int(const Settings& object, const std::string& key, std::int64_t low,
                      std::int64_t high) {
  object.value(key);
  return json_int(object.json(), object.stored_key(key), low, high);
}

std::int64_t json_int(const Settings& object, const std::string& key, std::int64_t low,
                      std::int64_t high, std::int64_t fallback) {
  object.value(key);
  return json_int(object.json(), object.stored_key(key), low, high, fallback);
}

double json_number(const Settings& object, const std::string& key, double fallback) {
  object.value(key);
  return json_number(object.json(), object.stored_key(key), fallback);
}

bool json_bool(const Settings& object, const std::string& key, bool fallback) {
  object.value(key);
  return json_bool(object.json(), object.stored_key(key), fallback);
}

std::string json_string(const Settings& object, const std::string& key,
                        const std::string& fallback) {
  object.value(key);
  return json_string(object.json(), object.stored_key(key), fallback);
}

FileReport judge_leftovers(const Settings& settings, std::span<const KeyRule> rules) {
  FileReport report{settings.file(), settings.read_keys(), {}};

  for (const Settings::Leftover& left : settings.leftovers()) {
    const auto rule = std::find_if(rules.begin(), rules.end(),
                                   [&](const KeyRule& r) { return matches(r.key, left.key); });

    if (rule == rules.end() && settings.accepts(left.key)) {
      report.left.push_back({left.key, left.value, FileReport::Fate::kAccepted});
      continue;
    }
    if (rule == rules.end()) {
      log_once(LogLevel::kWarning, settings.file() + ": key \"" + left.key + "\" (" +
                                       shortened(*left.value) + ") is not known and was not used");
      report.left.push_back({left.key, left.value, FileReport::Fate::kWarned});
      continue;
    }

    const Json neutral = Json::parse(rule->neutral);
    const bool changes = rule->effect == KeyRule::Effect::kChangesResults &&
                         std::find(neutral.begin(), neutral.end(), *left.value) == neutral.end();
    if (!changes) {
      report.left.push_back({left.key, left.value, FileReport::Fate::kNoEffect});
      continue;
    }

    const std::string line = settings.file() + ": key \"" + left.key + "\" (" +
                             shortened(*left.value) + "): " + std::string(rule->what);
    require(settings.accepts(left.key), ErrorCode::kUnsupported, line,
            " is not supported; --accept ", left.key, " goes on without it, with other results");
    log_once(LogLevel::kWarning, line + " is left out, as accepted");
    report.left.push_back({left.key, left.value, FileReport::Fate::kAccepted});
  }
  return report;
}

}  // namespace quell
