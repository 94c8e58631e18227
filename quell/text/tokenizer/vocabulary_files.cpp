#include "quell/text/tokenizer/vocabulary_files.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/components.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

std::vector<std::string> read_lines(const fs::path& path) {
  std::vector<std::string> lines;
  const std::string text = read_text_file(path);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    if (!lines.back().empty() && lines.back().back() == '\r') lines.back().pop_back();
    at = end + 1;
  }
  return lines;
}

/// A special token of tokenizer_config.json: its text (a string or an AddedToken object), and what to add to added_tokens.
struct Special {
  std::string content;
  Json entry;
};
Special special_token(const Json& config, const char* key, const std::string& fallback, const Json& vocab, bool normalized) {
  const Json& value = member(config, key);
  Special s{value.is_object()   ? json_string(value, "content", fallback)
            : value.is_string() ? value.get<std::string>()
                                : fallback,
            {}};
  if (!vocab.contains(s.content)) return s;
  s.entry = {{"id", vocab[s.content]}, {"content", s.content}, {"special", true}, {"normalized", normalized}};
  for (const char* flag : {"lstrip", "rstrip", "single_word"})
    if (value.is_object()) s.entry[flag] = json_bool(value, flag, false);
  return s;
}

void add_special(Json& added, const Special& special) {
  const bool known = std::any_of(added.begin(), added.end(), [&](const Json& a) { return a["content"] == special.content; });
  if (!special.entry.is_null() && !known) added.push_back(special.entry);
}

Json id_pair(const Special& special, const fs::path& file) {
  require(!special.entry.is_null(), ErrorCode::kInvalidInput, file.string(), ": special token \"", special.content,
          "\" is not in the vocabulary");
  return {special.content, special.entry["id"]};
}

Json bos_template(const Special& bos, const fs::path& file) {
  const Json token = {{"SpecialToken", {{"id", bos.content}, {"type_id", 0}}}};
  const auto sequence = [](const char* id) { return Json{{"Sequence", {{"id", id}, {"type_id", 0}}}}; };
  return {{"type", "TemplateProcessing"},
          {"single", {token, sequence("A")}},
          {"pair", {token, sequence("A"), token, sequence("B")}},
          {"special_tokens", {{bos.content, {{"ids", {id_pair(bos, file)[1]}}}}}}};
}

}  // namespace

TokenizerFiles read_tokenizer_files(const fs::path& dir) {
  TokenizerFiles files;
  std::error_code ec;
  if (fs::exists(dir / "tokenizer_config.json", ec)) files.config = read_json_file(dir / "tokenizer_config.json");
  if (fs::exists(dir / "config.json", ec)) files.model_type = json_string(read_json_file(dir / "config.json"), "model_type", "");
  return files;
}

Json json_of_word_piece(const fs::path& path, const TokenizerFiles& files) {
  Json vocab = Json::object();
  std::int64_t id = 0;
  for (const std::string& token : read_lines(path)) vocab[token] = id++;
  const Json& config = files.config;
  const bool lowercase = json_bool(config, "do_lower_case", true);
  const auto special = [&](const char* key, const char* fallback) { return special_token(config, key, fallback, vocab, false); };
  const Special cls = special("cls_token", "[CLS]"), sep = special("sep_token", "[SEP]"), unk = special("unk_token", "[UNK]");
  Json added = Json::array();
  for (const Special& s : {special("pad_token", "[PAD]"), unk, cls, sep, special("mask_token", "[MASK]")}) add_special(added, s);
  return {{"added_tokens", added},
          {"normalizer",
           {{"type", "BertNormalizer"},
            {"handle_chinese_chars", json_bool(config, "tokenize_chinese_chars", true)},
            {"strip_accents", json_bool(config, "strip_accents", lowercase)},
            {"lowercase", lowercase}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"model", {{"type", "WordPiece"}, {"vocab", vocab}, {"unk_token", unk.content}}},
          {"post_processor", {{"type", "BertProcessing"}, {"cls", id_pair(cls, path)}, {"sep", id_pair(sep, path)}}},
          {"decoder", {{"type", "WordPiece"}}}};
}

Json json_of_bpe(const fs::path& path, const TokenizerFiles& files) {
  const Json vocab = read_json_file(path), &config = files.config;
  require(vocab.is_object(), ErrorCode::kInvalidInput, path.string(), ": not a JSON object");
  Json merges = Json::array();
  const std::vector<std::string> lines = read_lines(path.parent_path() / "merges.txt");
  for (std::size_t i = 0; i < lines.size(); ++i)
    if (!lines[i].empty() && !(i == 0 && lines[i].starts_with("#version"))) merges.push_back(lines[i]);

  const std::string type = json_string(config, "tokenizer_class", files.model_type);
  const bool roberta = type.starts_with("Roberta") || type.starts_with("Bart") || type == "roberta" || type == "bart";
  const bool prefix_space = json_bool(config, "add_prefix_space", false);
  const auto special = [&](const char* key, const char* fallback) { return special_token(config, key, fallback, vocab, true); };
  const char* text_end = roberta ? "</s>" : "<|endoftext|>";
  const Special bos = special("bos_token", roberta ? "<s>" : text_end), eos = special("eos_token", text_end);
  Json added = Json::array();
  for (const Special& s :
       {bos, eos, special("unk_token", roberta ? "<unk>" : text_end), special("pad_token", roberta ? "<pad>" : "")})
    add_special(added, s);
  Json post_processor;
  if (roberta) {
    Special mask = special("mask_token", "<mask>");
    if (!mask.entry.is_null()) mask.entry["lstrip"] = true;
    add_special(added, mask);
    post_processor = {{"type", "RobertaProcessing"},
                      {"cls", id_pair(bos, path)},
                      {"sep", id_pair(eos, path)},
                      {"add_prefix_space", prefix_space}};
  } else if (json_bool(config, "add_bos_token", false)) {
    post_processor = bos_template(bos, path);
  }
  return {{"added_tokens", added},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}},
          {"post_processor", post_processor},
          {"decoder", {{"type", "ByteLevel"}}}};
}

}  // namespace quell
