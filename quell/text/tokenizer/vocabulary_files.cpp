#include "quell/text/tokenizer/vocabulary_files.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

using Piece = SentencePieceModel::Piece;

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

/// Without white space at the end.
std::string trimmed(const std::string& line) {
  std::u32string text = unicode::decode(line);
  while (!text.empty() && unicode::is(text.back(), unicode::kWhitespace)) text.pop_back();
  return unicode::encode(text);
}

/// A token's text as transformers writes it into a vocabulary, where null becomes the word None.
std::string text_or(const ClassInputs& inputs, const char* key, const std::string& fallback) {
  const auto named = inputs.tokens.named.find(key);
  if (named == inputs.tokens.named.end()) return fallback;
  return named->second.token ? named->second.token->content : "None";
}

Json scored(const std::vector<std::string>& tokens) {
  Json list = Json::array();
  for (const std::string& token : tokens) list.push_back({token, 0.0});
  return list;
}

void append(Json& list, const Json& more, std::size_t from = 0) {
  for (std::size_t i = from; i < more.size(); ++i) list.push_back(more[i]);
}

/// Pieces in the order of fairseq: its specials in front, SentencePiece's own three left out,
/// <mask> behind.
Json fairseq_vocab(const ClassInputs& inputs, const Json& pieces, const char* first,
                   const std::vector<std::string>& languages) {
  Json vocab =
      scored({text_or(inputs, first, "<s>"), text_or(inputs, "pad_token", "<pad>"),
              text_or(inputs, "eos_token", "</s>"), text_or(inputs, "unk_token", "<unk>")});
  append(vocab, pieces, 3);
  append(vocab, scored(languages));
  append(vocab, scored({text_or(inputs, "mask_token", "<mask>")}));
  return vocab;
}

Json camembert_vocab(const ClassInputs& inputs, const Json& pieces) {
  Json vocab = scored({"<s>NOTUSED", text_or(inputs, "pad_token", "<pad>"), "</s>NOTUSED",
                       text_or(inputs, "unk_token", "<unk>")});
  vocab.push_back({"<unk>NOTUSED", -100.0});
  append(vocab, pieces, 1);
  append(vocab, scored({text_or(inputs, "mask_token", "<mask>")}));
  return vocab;
}

Json t5_vocab(const ClassInputs& inputs, Json pieces) {
  for (std::int64_t n = json_int(inputs.config, "extra_ids", 0, 10000, 100); n-- > 0;)
    pieces.push_back({"<extra_id_" + std::to_string(n) + ">", 0.0});
  return pieces;
}

Json scored_pieces(const SentencePieceModel& model) {
  Json list = Json::array();
  for (const Piece& piece : model.pieces) list.push_back({piece.text, piece.score});
  return list;
}

/// Control and user-defined pieces are tokens of their own; the latter only where `user_defined`.
std::vector<SpecialToken> special_pieces(const SentencePieceModel& model, bool user_defined) {
  std::vector<SpecialToken> tokens;
  for (const Piece& piece : model.pieces) {
    const bool wanted = piece.type == SentencePieceModel::kControl ||
                        (user_defined && piece.type == SentencePieceModel::kUserDefined);
    if (!wanted) continue;
    SpecialToken token = SpecialToken::with_flags(piece.text);
    token.normalized = false;
    token.special = piece.type == SentencePieceModel::kControl;
    tokens.push_back(token);
  }
  return tokens;
}

std::string escaped(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 ||
                       std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
    if (!plain) pattern.push_back('\\');
    pattern.push_back(c);
  }
  return pattern;
}

/// What SentencePiece does to a text before it looks for pieces.
Json own_normalizer(const SentencePieceModel& model, bool legacy) {
  Json list = Json::array();
  if (!model.charsmap.empty())
    list.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", model.charsmap_base64()}});
  if (model.remove_extra_whitespaces) {
    list.push_back(regex_replace("\\A +| +\\z", ""));
    list.push_back(regex_replace(" {2,}", " "));
  }
  if (model.escape_whitespaces) list.push_back(literal_replace(" ", "\u2581"));
  if (model.add_dummy_prefix && legacy) list.push_back(regex_replace("\\A\u2581", "\u2581\u2581"));
  return sequence_of("normalizers", list);
}

Json own_pre_tokenizer(const SentencePieceModel& model, bool legacy,
                       std::vector<std::string> user_defined) {
  Json list = Json::array();
  if (model.add_dummy_prefix) list.push_back(metaspace(legacy ? "always" : "first", false));
  if (!user_defined.empty()) {
    std::stable_sort(user_defined.begin(), user_defined.end(),
                     [](const std::string& a, const std::string& b) {
                       return unicode::decode(a).size() > unicode::decode(b).size();
                     });
    std::string pattern;
    for (const std::string& piece : user_defined)
      pattern += (pattern.empty() ? "" : "|") + escaped(piece);
    list.push_back({{"type", "Split"},
                    {"pattern", {{"Regex", pattern}}},
                    {"behavior", "Isolated"},
                    {"invert", false}});
  }
  return list.empty() ? Json() : sequence_of("pretokenizers", list);
}

Json own_decoder(const SentencePieceModel& model) {
  Json list = Json::array({literal_replace("\u2581", " ")});
  if (model.byte_fallback) list.push_back({{"type", "ByteFallback"}});
  if (model.add_dummy_prefix || model.byte_fallback) list.push_back({{"type", "Fuse"}});
  if (model.add_dummy_prefix)
    list.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return sequence_of("decoders", list);
}

/// Names of the pieces, where files give a placeholder another one.
std::vector<std::string> names_of(const SentencePieceModel& model, const TokenSettings& tokens) {
  std::set<std::string> kept;
  for (std::size_t i = 0; i < model.pieces.size(); ++i)
    if (!tokens.added.contains(static_cast<std::int64_t>(i))) kept.insert(model.pieces[i].text);

  std::vector<std::string> names;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const auto renamed = tokens.added.find(static_cast<std::int64_t>(i));
    const bool rename = renamed != tokens.added.end() && !kept.contains(renamed->second.content);
    names.push_back(rename ? renamed->second.content : model.pieces[i].text);
  }
  return names;
}

}  // namespace

void read_word_piece(const fs::path& path, ClassInputs& inputs) {
  inputs.vocab = Json::object();
  std::int64_t id = 0;
  for (const std::string& line : read_lines(path)) inputs.vocab[trimmed(line)] = id++;
}

void read_python_lines(const fs::path& path, ClassInputs& inputs) {
  inputs.vocab = Json::object();
  std::int64_t id = 0;
  const std::string text = read_text_file(path);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_of("\r\n", at), text.size());
    inputs.vocab[text.substr(at, end - at)] = id++;
    at = end + (text.compare(end, 2, "\r\n") == 0 ? 2 : 1);
  }
}

void read_bpe(const fs::path& path, ClassInputs& inputs) {
  inputs.vocab = read_json_file(path);
  require(inputs.vocab.is_object(), ErrorCode::kInvalidInput, "not a JSON object");

  inputs.merges = Json::array();
  for (const std::string& line : read_lines(path.parent_path() / "merges.txt"))
    if (!line.empty() && !line.starts_with("#version")) inputs.merges.push_back(line);
}

void read_sentencepiece_for(const ClassRule& rule, const SentencePieceModel& model,
                            ClassInputs& inputs) {
  const std::string_view name = rule.name;
  inputs.tokens.additional = special_pieces(model, true);
  if (!model.charsmap.empty()) inputs.charsmap = model.charsmap_base64();

  if (rule.kind == ClassRule::Kind::kBpe) {
    inputs.vocab = Json::object();
    for (std::size_t i = 0; i < model.pieces.size(); ++i) inputs.vocab[model.pieces[i].text] = i;
    inputs.merges = merges_by_id(inputs.vocab);
    return;
  }

  // Of one class alone SentencePiece's own kind decides, and it can do nothing with a BPE.
  require(model.unigram || name != "CamembertTokenizer", ErrorCode::kUnsupported,
          "CamembertTokenizer with a BPE model is not supported");
  inputs.unk_id = model.unk_id;
  Json pieces = scored_pieces(model);
  if (name == "CamembertTokenizer")
    inputs.vocab = camembert_vocab(inputs, pieces);
  else if (name == "XLMRobertaTokenizer")
    inputs.vocab = fairseq_vocab(inputs, pieces, "bos_token", {});
  else if (name == "MBartTokenizer")
    inputs.vocab = fairseq_vocab(inputs, pieces, "bos_token", mbart_languages());
  else if (name == "MBart50Tokenizer")
    inputs.vocab = fairseq_vocab(inputs, pieces, "cls_token", mbart50_languages());
  else if (name == "T5Tokenizer")
    inputs.vocab = t5_vocab(inputs, std::move(pieces));
  else
    inputs.vocab = std::move(pieces);
}

Json json_of_sentencepiece(const SentencePieceModel& model, ClassInputs inputs, bool begin) {
  const std::vector<std::string> names = names_of(model, inputs.tokens);
  std::vector<std::string> user_defined;
  for (std::size_t i = 0; i < model.pieces.size(); ++i)
    if (model.pieces[i].type == SentencePieceModel::kUserDefined) user_defined.push_back(names[i]);

  inputs.tokens.additional = special_pieces(model, false);
  if (model.add_dummy_prefix)
    for (auto& [id, token] : inputs.tokens.added) token.normalized = false;

  if (model.unigram) {
    inputs.vocab = scored_pieces(model);
  } else {
    inputs.vocab = Json::object();
    for (std::size_t i = 0; i < names.size(); ++i) inputs.vocab[names[i]] = i;
    inputs.merges = merges_by_score(model, names);
  }

  ClassBuilder b(std::move(inputs));
  if (model.bos_id >= 0) b.default_token("bos_token", model.bos_piece);
  if (model.eos_id >= 0) b.default_token("eos_token", model.eos_piece);
  if (model.unk_id >= 0) b.default_token("unk_token", model.unk_piece);

  if (begin && !b.config().contains("add_bos_token")) b.add_bos = true;

  const bool legacy = b.flag("legacy", true);
  b.normalizer = own_normalizer(model, legacy);
  b.pre_tokenizer = own_pre_tokenizer(model, legacy, user_defined);
  b.decoder = own_decoder(model);
  if (model.unigram)
    b.model = {{"type", "Unigram"},
               {"byte_fallback", model.byte_fallback},
               {"unk_id", model.unk_id < 0 ? Json() : Json(model.unk_id)}};
  else
    b.model = {
        {"type", "BPE"},
        {"fuse_unk", true},
        {"byte_fallback", model.byte_fallback},
        {"unk_token", b.inputs().vocab.contains(model.unk_piece) ? Json(model.unk_piece) : Json()},
        {"ignore_merges", !user_defined.empty()}};
  return b.finish();
}

}  // namespace quell
