// Tokenizers from files: tokenizer.json, or the vocabulary files of older repositories.
#include <algorithm>
#include <map>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void refuse(const std::string& stage, const std::string& type) {
  throw Error(ErrorCode::kUnsupported, "tokenizer: " + stage + " \"" + type + "\" is not supported yet");
}

std::string type_of(const Json& stage) { return json_string(stage, "type", ""); }

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  const auto it = object.find(key);
  return it == object.end() ? kNull : *it;
}

std::unique_ptr<Normalizer> read_normalizer(const Json& json) {
  if (json.is_null()) return nullptr;
  if (type_of(json) != "BertNormalizer") refuse("normalizer", type_of(json));
  const bool lowercase = json_bool(json, "lowercase", true);
  return make_bert_normalizer(json_bool(json, "clean_text", true), json_bool(json, "handle_chinese_chars", true),
                              json_bool(json, "strip_accents", lowercase), lowercase);
}

std::unique_ptr<PreTokenizer> read_pre_tokenizer(const Json& json) {
  const std::string type = json.is_null() ? "null" : type_of(json);
  if (type == "BertPreTokenizer") return make_bert_pre_tokenizer();
  if (type == "ByteLevel")
    return make_byte_level_pre_tokenizer(json_bool(json, "add_prefix_space", true), json_bool(json, "use_regex", true));
  refuse("pre_tokenizer", type);
}

bool set_and_not_empty(const Json& json, const char* key) { return !json_string(json, key, "").empty(); }

std::unique_ptr<TokenModel> read_model(const Json& json, bool byte_level) {
  require(json.is_object(), ErrorCode::kInvalidInput, "tokenizer: no model");
  std::string type = type_of(json);
  if (type.empty()) type = json.contains("merges") ? "BPE" : json.contains("max_input_chars_per_word") ? "WordPiece" : "";
  if (type == "WordPiece")
    return make_word_piece(member(json, "vocab"), json_string(json, "unk_token", "[UNK]"),
                           json_string(json, "continuing_subword_prefix", "##"),
                           json_int(json, "max_input_chars_per_word", 1, 1 << 20, 100));
  if (type != "BPE") refuse("model", type);
  if (!byte_level) refuse("model", "BPE without a ByteLevel pre-tokenizer");
  if (json_bool(json, "byte_fallback", false)) refuse("model", "BPE with byte_fallback");
  if (!member(json, "dropout").is_null() && json_number(json, "dropout", 0) != 0) refuse("model", "BPE with dropout");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix", "unk_token"})
    if (set_and_not_empty(json, key)) refuse("model", std::string("BPE with ") + key);
  return make_byte_level_bpe(member(json, "vocab"), member(json, "merges"), json_bool(json, "ignore_merges", false));
}

std::vector<PostProcessor::Piece> read_template(const Json& pieces, const Json& specials) {
  require(pieces.is_array(), ErrorCode::kInvalidInput, "tokenizer: template is not an array");
  std::vector<PostProcessor::Piece> out;
  for (const Json& piece : pieces) {
    const Json& sequence = member(piece, "Sequence");
    const Json& special = member(piece, "SpecialToken");
    const Json& used = sequence.is_null() ? special : sequence;
    PostProcessor::Piece p{-1, static_cast<std::int32_t>(json_int(used, "type_id", 0, 255, 0)), {}};
    const std::string id = json_string(used, "id", "");
    if (!sequence.is_null()) {
      require(id == "A" || id == "B", ErrorCode::kInvalidInput, "tokenizer: template sequence \"", id, "\" is neither A nor B");
      p.sequence = id == "A" ? 0 : 1;
    } else {
      const Json& ids = member(member(specials, id.c_str()), "ids");
      require(ids.is_array(), ErrorCode::kInvalidInput, "tokenizer: template needs special token \"", id,
              "\", which special_tokens lacks");
      for (const Json& value : ids) {
        require(value.is_number_integer(), ErrorCode::kInvalidInput, "tokenizer: special token ids must be integers");
        p.ids.push_back(value.get<std::int32_t>());
      }
    }
    out.push_back(std::move(p));
  }
  return out;
}

std::int32_t pair_id(const Json& token_and_id) {
  require(token_and_id.is_array() && token_and_id.size() == 2 && token_and_id[1].is_number_integer(), ErrorCode::kInvalidInput,
          "tokenizer: BertProcessing needs [token, id]");
  return token_and_id[1].get<std::int32_t>();
}

PostProcessor bert_processing(std::int32_t cls, std::int32_t sep) {
  return {{{-1, 0, {cls}}, {0, 0, {}}, {-1, 0, {sep}}}, {{-1, 0, {cls}}, {0, 0, {}}, {-1, 0, {sep}}, {1, 1, {}}, {-1, 1, {sep}}}};
}

PostProcessor read_post_processor(const Json& json) {
  if (json.is_null()) return {};
  const std::string type = type_of(json);
  if (type == "ByteLevel") return {};  // it changes offsets only
  if (type == "BertProcessing") return bert_processing(pair_id(member(json, "cls")), pair_id(member(json, "sep")));
  if (type == "TemplateProcessing") {
    const Json& specials = member(json, "special_tokens");
    return {read_template(member(json, "single"), specials), read_template(member(json, "pair"), specials)};
  }
  refuse("post_processor", type);
}

std::unique_ptr<Decoder> read_decoder(const Json& json) {
  const std::string type = json.is_null() ? "null" : type_of(json);
  if (type == "WordPiece") return make_word_piece_decoder(json_string(json, "prefix", "##"), json_bool(json, "cleanup", true));
  if (type == "ByteLevel") return make_byte_level_decoder();
  refuse("decoder", type);
}

/// The text of a special token in tokenizer_config.json: a string or an AddedToken object.
std::string special_token(const Json& config, const char* key, const std::string& fallback) {
  const Json& value = member(config, key);
  if (value.is_object()) return json_string(value, "content", fallback);
  return value.is_string() ? value.get<std::string>() : fallback;
}

}  // namespace

void Tokenizer::read_added_token(const Json& json) {
  AddedToken token;
  token.id = static_cast<std::int32_t>(json_int(json, "id", 0, 1 << 26));
  token.utf8 = json_string(json, "content", "");
  token.content = unicode::decode(token.utf8);
  token.special = json_bool(json, "special", false);
  token.normalized = json_bool(json, "normalized", !token.special);
  token.single_word = json_bool(json, "single_word", false);
  token.lstrip = json_bool(json, "lstrip", false);
  token.rstrip = json_bool(json, "rstrip", false);
  added_.push_back(std::move(token));
}

Tokenizer Tokenizer::from_json(const Json& json, const std::string& source) {
  try {
    require(json.is_object(), ErrorCode::kInvalidInput, "not a JSON object");
    Tokenizer t;
    t.normalizer_ = read_normalizer(member(json, "normalizer"));
    const Json& pre_tokenizer = member(json, "pre_tokenizer");
    t.pre_tokenizer_ = read_pre_tokenizer(pre_tokenizer);
    t.model_ = read_model(member(json, "model"), type_of(pre_tokenizer) == "ByteLevel");
    t.post_processor_ = read_post_processor(member(json, "post_processor"));
    t.decoder_ = read_decoder(member(json, "decoder"));
    const Json& added = member(json, "added_tokens");
    if (added.is_array())
      for (const Json& token : added) t.read_added_token(token);
    t.prepare_added_tokens();
    return t;
  } catch (const Error& e) {
    throw Error(e.code(), source + ": " + e.what());
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidInput, source + ": " + e.what());
  }
}

Tokenizer Tokenizer::from_word_piece_files(const fs::path& dir, const Json& config) {
  Json vocab = Json::object();
  const std::string text = read_text_file(dir / "vocab.txt");
  std::int64_t id = 0;
  for (std::size_t at = 0; at < text.size(); ++id) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string token = text.substr(at, end - at);
    if (!token.empty() && token.back() == '\r') token.pop_back();
    vocab[token] = id;
    at = end + 1;
  }
  Tokenizer t;
  const bool lowercase = json_bool(config, "do_lower_case", true);
  t.normalizer_ = make_bert_normalizer(true, json_bool(config, "tokenize_chinese_chars", true),
                                       json_bool(config, "strip_accents", lowercase), lowercase);
  t.pre_tokenizer_ = make_bert_pre_tokenizer();
  t.model_ = make_word_piece(vocab, special_token(config, "unk_token", "[UNK]"), "##", 100);
  t.decoder_ = make_word_piece_decoder("##", true);
  std::map<std::string, std::int32_t> specials;
  for (const auto& [key, fallback] : {std::pair("pad_token", "[PAD]"),
                                      {"unk_token", "[UNK]"},
                                      {"cls_token", "[CLS]"},
                                      {"sep_token", "[SEP]"},
                                      {"mask_token", "[MASK]"}}) {
    const std::string token = special_token(config, key, fallback);
    const auto token_id = t.model_->id_of(token);
    if (!token_id) continue;
    specials[key] = *token_id;
    t.read_added_token({{"id", *token_id}, {"content", token}, {"special", true}, {"normalized", false}});
  }
  require(specials.contains("cls_token") && specials.contains("sep_token"), ErrorCode::kInvalidInput, (dir / "vocab.txt").string(),
          ": the classifier and separator tokens are not in the vocabulary");
  t.post_processor_ = bert_processing(specials["cls_token"], specials["sep_token"]);
  t.prepare_added_tokens();
  return t;
}

Tokenizer Tokenizer::from_bpe_files(const fs::path& dir, const Json& config) {
  const Json vocab = read_json_file(dir / "vocab.json");
  const std::string text = read_text_file(dir / "merges.txt");
  Json merges = Json::array();
  bool first = true;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty() && !(first && line.starts_with("#version"))) merges.push_back(line);
    first = false;
    at = end + 1;
  }
  Tokenizer t;
  t.pre_tokenizer_ = make_byte_level_pre_tokenizer(json_bool(config, "add_prefix_space", false), true);
  t.model_ = make_byte_level_bpe(vocab, merges, false);
  t.decoder_ = make_byte_level_decoder();
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    const std::string token = special_token(config, key, std::string(key) == "pad_token" ? "" : "<|endoftext|>");
    const auto id = t.model_->id_of(token);
    const bool known = std::any_of(t.added_.begin(), t.added_.end(), [&](const AddedToken& a) { return id && a.id == *id; });
    if (id && !known) t.read_added_token({{"id", *id}, {"content", token}, {"special", true}, {"normalized", true}});
  }
  if (json_bool(config, "add_bos_token", false)) {
    const std::string bos = special_token(config, "bos_token", "<|endoftext|>");
    const auto id = t.model_->id_of(bos);
    require(id.has_value(), ErrorCode::kInvalidInput, (dir / "vocab.json").string(), ": bos token \"", bos,
            "\" is not in the vocabulary");
    t.post_processor_.single = {{-1, 0, {*id}}, {0, 0, {}}};
    t.post_processor_.pair = {{-1, 0, {*id}}, {0, 0, {}}, {-1, 0, {*id}}, {1, 0, {}}};
  }
  t.prepare_added_tokens();
  return t;
}

Tokenizer Tokenizer::open(const fs::path& dir) {
  std::error_code ec;
  if (fs::exists(dir / "tokenizer.json", ec))
    return from_json(read_json_file(dir / "tokenizer.json"), (dir / "tokenizer.json").string());
  const Json config =
      fs::exists(dir / "tokenizer_config.json", ec) ? read_json_file(dir / "tokenizer_config.json") : Json::object();
  try {
    if (fs::exists(dir / "vocab.txt", ec)) return from_word_piece_files(dir, config);
    if (fs::exists(dir / "vocab.json", ec) && fs::exists(dir / "merges.txt", ec)) return from_bpe_files(dir, config);
  } catch (const Json::exception& e) {
    throw Error(ErrorCode::kInvalidInput, dir.string() + ": " + e.what());
  }
  throw Error(ErrorCode::kIo,
              dir.string() + ": no tokenizer.json, vocab.txt, or vocab.json with merges.txt; pass token ids instead of text");
}

}  // namespace quell
