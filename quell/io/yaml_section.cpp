#include "quell/io/yaml_section.h"

#include <algorithm>

#include "quell/base/error.h"

namespace quell {
namespace {

/// yaml-cpp resolves aliases into shared, possibly cyclic, nodes and recurses on depth: both are
/// refused before it builds anything.
void refuse_aliases_and_depth(const std::string& yaml, const std::string& source) {
  constexpr std::size_t kMaxBytes = 1 << 20, kMaxDepth = 32;
  require(yaml.size() <= kMaxBytes, ErrorCode::kInvalidInput, source, ": ", yaml.size(),
          " bytes, more than a recipe needs");
  std::size_t depth = 0, dashes = 0;
  char quote = 0;
  bool comment = false, line_start = true;
  char previous = '\n';
  for (const char c : yaml) {
    if (c == '\n') comment = false, line_start = true, dashes = 0;
    const bool token_start = previous == ' ' || previous == '\n' || previous == '[' ||
                             previous == '{' || previous == ',' || previous == ':' ||
                             previous == '-' || previous == '\t';
    if (!comment && !quote && c == '#' && token_start) comment = true;
    if (!comment && (c == '"' || c == '\'') && (quote == c || (!quote && token_start)))
      quote = quote ? 0 : c;
    if (!comment && !quote) {
      require(!((c == '*' || c == '&' || c == '!') && token_start), ErrorCode::kInvalidInput,
              source,
              ": YAML anchors, aliases and tags are not allowed in a recipe; quote a value that "
              "starts with ",
              c);
      if (c == '[' || c == '{') ++depth;
      if ((c == ']' || c == '}') && depth > 0) --depth;
      if (line_start && (c == '-' || c == '?')) ++dashes;
      if (c != ' ' && c != '-' && c != '?') line_start = false;
    }
    require(depth <= kMaxDepth && dashes <= kMaxDepth, ErrorCode::kInvalidInput, source,
            ": nested too deep");
    previous = c;
  }
}

}  // namespace

void read_yaml(const std::string& yaml, const std::string& source,
               const std::function<void(const YAML::Node&)>& read) {
  refuse_aliases_and_depth(yaml, source);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(yaml);
    require(documents.size() <= 1, ErrorCode::kInvalidInput, source, ": holds ", documents.size(),
            " YAML documents (parted by ---), a recipe is one; remove the others");
    read(documents.empty() ? YAML::Node() : documents.front());
  } catch (const YAML::Exception& e) {
    throw Error(ErrorCode::kInvalidInput, source + ": not a valid recipe: " + e.what());
  } catch (const Error& e) {
    throw Error(ErrorCode::kInvalidInput, e.what());
  }
}

Section::Section(const YAML::Node& node, std::string where, const std::vector<std::string>& known)
    : where_(std::move(where)) {
  require(node.IsMap(), ErrorCode::kInvalidInput, where_, ": expected a mapping");
  for (const auto& item : node) {
    require(item.first.IsScalar(), ErrorCode::kInvalidInput, where_, ": a key is not plain text");
    const std::string key = item.first.Scalar();
    require(std::find(known.begin(), known.end(), key) != known.end(), ErrorCode::kInvalidInput,
            where_, ": unknown key \"", key, "\"; known are ", comma_list(known));
    require(values_.emplace(key, item.second).second, ErrorCode::kInvalidInput, where_,
            ": duplicate key \"", key, '"');
  }
}

const YAML::Node* Section::find(const std::string& key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

std::string Section::scalar(const std::string& key, const std::string& fallback) const {
  const YAML::Node* node = find(key);
  if (!node) return fallback;
  require(node->IsScalar(), ErrorCode::kInvalidInput, where(key), ": expected one value");
  return node->Scalar();
}

std::string Section::choice(const std::string& key, const std::vector<std::string>& allowed,
                            const std::string& fallback) const {
  const std::string value = scalar(key, fallback);
  require(std::find(allowed.begin(), allowed.end(), value) != allowed.end(),
          ErrorCode::kInvalidInput, where(key), ": \"", value, "\"; use ", comma_list(allowed));
  return value;
}

bool Section::flag(const std::string& key, bool fallback) const {
  return choice(key, {"true", "false"}, fallback ? "true" : "false") == "true";
}

std::int64_t Section::integer(const std::string& key, std::int64_t low, std::int64_t high,
                              std::int64_t fallback) const {
  return find(key) ? parse_integer(scalar(key, ""), where(key), low, high) : fallback;
}

double Section::number(const std::string& key, double low, double high, double fallback) const {
  return find(key) ? parse_number(scalar(key, ""), where(key), low, high) : fallback;
}

MethodParams read_method(const YAML::Node& node, const std::string& where,
                         const std::string& kind) {
  if (node.IsScalar()) return MethodParams(node.Scalar(), {}, kind);
  require(node.IsMap() && node.size() == 1 && node.begin()->first.IsScalar(),
          ErrorCode::kInvalidInput, where, ": each ", kind,
          " is a name, or one name with its settings");

  const std::string name = node.begin()->first.Scalar();
  const YAML::Node settings = node.begin()->second;
  require(settings.IsMap() || settings.IsNull(), ErrorCode::kInvalidInput, where, ": settings of ",
          name, " are not a mapping");
  std::map<std::string, std::string> values;
  for (const auto& setting : settings) {
    require(setting.first.IsScalar() && setting.second.IsScalar(), ErrorCode::kInvalidInput, where,
            ": a setting of ", name, " is not plain");
    require(values.emplace(setting.first.Scalar(), setting.second.Scalar()).second,
            ErrorCode::kInvalidInput, where, ": duplicate key \"", setting.first.Scalar(), '"');
  }
  return MethodParams(name, std::move(values), kind);
}

std::vector<MethodParams> read_methods(const YAML::Node& node, const std::string& where,
                                       const std::string& kind) {
  require(node.IsSequence(), ErrorCode::kInvalidInput, where, ": expected a list");
  std::vector<MethodParams> methods;
  for (const YAML::Node& item : node) methods.push_back(read_method(item, where, kind));
  return methods;
}

}  // namespace quell
