// JSON settings of a model directory, read so that what was asked for is remembered: what nobody
// asked for can be found afterwards.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quell/io/json_fwd.h"

namespace quell {

/// Keys that the user takes responsibility for ("key" or "section.key"), and which of them were
/// asked for. Copies share both.
class AcceptedKeys {
 public:
  AcceptedKeys() : AcceptedKeys(std::vector<std::string>()) {}
  AcceptedKeys(std::vector<std::string> keys);  // NOLINT: a list of keys is one

  void add(const std::string& key);
  /// Whether `key` is among them; if so, it has met something.
  bool accepts(const std::string& key) const;
  const std::vector<std::string>& keys() const;
  /// Those with which something was let through, in their order.
  std::vector<std::string> met() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// One JSON object of a file, with a record of the keys that were read. Copies, and the sections
/// inside it, share the file's record. Cheap to copy; not for use from several threads.
class Settings {
 public:
  /// No file: every key is missing.
  Settings();
  /// The object `root`, which `file` names in messages; keys in `accepted` are not refused. Throws
  /// Error(kInvalidInput) when `root` is not an object.
  explicit Settings(Json root, std::string file = "", AcceptedKeys accepted = {});

  /// The same object with other names for some keys: `aliases[key]` is another name under which the
  /// file may hold it ("n_embd" for "hidden_size"). `key` itself wins where both are there, as the
  /// general name does in transformers' attribute_map.
  Settings with_aliases(std::map<std::string, std::string> aliases) const;
  /// The name under which the file holds `key`.
  const std::string& stored_key(const std::string& key) const;

  const std::string& file() const;
  /// The object itself, without a trace in the record.
  const Json& json() const { return *object_; }

  /// Whether the key is there, be it null; and whether it is there and not null. Neither counts as
  /// reading it.
  bool contains(const std::string& key) const;
  bool has(const std::string& key) const;

  /// The value with everything inside it, null where it is missing. Counts as read.
  const Json& value(const std::string& key) const;
  /// The object under `key`, read key by key in its turn; without keys where it is missing or null.
  /// Throws Error(kInvalidInput) when it is something else.
  Settings section(const std::string& key) const;
  /// The objects of the list under `key`; none where it is missing or null. Throws
  /// Error(kInvalidInput) when an entry is something else.
  std::vector<Settings> sections(const std::string& key) const;

  /// For a value with which the reference computes something that we do not: throws
  /// Error(kUnsupported) saying `reason` and how to go on, unless the user accepted the key. Counts
  /// as read.
  void refuse(const std::string& key, const std::string& reason) const;

  /// A key that was not read, with the sections around it ("rope_scaling.factor").
  struct Leftover {
    std::string key;
    JsonBox value;
  };
  /// Of this object and below, in the order of the keys.
  std::vector<Leftover> leftovers() const;
  /// Keys read so far, of the whole file.
  std::vector<std::string> read_keys() const;
  /// Whether the user accepted the key with the sections around it.
  bool accepts(const std::string& full_key) const;

 private:
  struct Record;
  Settings(std::shared_ptr<Record> record, const Json* object, std::string path);
  std::string full_key(const std::string& key) const {
    return path_.empty() ? key : path_ + "." + key;
  }
  void collect(const Json& object, const std::string& path, std::vector<Leftover>& out) const;

  std::shared_ptr<Record> record_;
  const Json* object_;
  std::string path_;  ///< of this object in the file, "" for the root
  std::shared_ptr<const std::map<std::string, std::string>> aliases_;
};

// As their counterparts for plain JSON (json.h); the key counts as read.
std::int64_t json_int(const Settings& object, const std::string& key, std::int64_t low,
                      std::int64_t high);
std::int64_t json_int(const Settings& object, const std::string& key, std::int64_t low,
                      std::int64_t high, std::int64_t fallback);
double json_number(const Settings& object, const std::string& key, double fallback);
bool json_bool(const Settings& object, const std::string& key, bool fallback);
std::string json_string(const Settings& object, const std::string& key,
                        const std::string& fallback);

/// What is known of a key that no code reads.
struct KeyRule {
  /// Whether the reference's results can depend on it.
  enum class Effect { kNone, kChangesResults };

  std::string_view key;  ///< "key" or "section.key"; '*' stands for any characters
  Effect effect = Effect::kNone;
  /// Of a key that changes results: JSON of the values with which it does not, as a list ("[null,
  /// false]").
  std::string_view neutral = "[null]";
  /// Of a key that changes results: what the reference does with it.
  std::string_view what = "";
};

/// What became of one file.
struct FileReport {
  enum class Fate { kNoEffect, kWarned, kAccepted };
  struct Left {
    std::string key;
    JsonBox value;
    Fate fate;
  };

  std::string file;
  std::vector<std::string> read;
  std::vector<Left> left;
};

/// Judges what is left over in a file after everybody has read it. Throws Error(kUnsupported) at a
/// key that changes results and was not accepted; logs one warning for each key without a rule.
FileReport judge_leftovers(const Settings& settings, std::span<const KeyRule> rules);

}  // namespace quell
