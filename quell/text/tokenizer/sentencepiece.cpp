// SentencePiece models (Kudo and Richardson 2018). The file is a protobuf ModelProto, of which four fields matter; what the pieces
// mean for ids and special tokens depends on the family, as in transformers' converters.
#include <algorithm>
#include <cstring>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/vocabulary_files.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

/// Reads the fields of one protobuf message. Throws Error(kInvalidInput) on bytes that are none.
class MessageReader {
 public:
  explicit MessageReader(std::string_view bytes) : bytes_(bytes) {}
  /// The next field, or false at the end. Then one of value() and bytes() is its content.
  bool next() {
    if (bytes_.empty()) return false;
    const std::uint64_t tag = varint();
    field_ = tag >> 3;
    switch (tag & 7) {
      case 0: value_ = varint(); break;
      case 1: take_fixed(8); break;
      case 2: content_ = take(varint()); break;
      case 5: take_fixed(4); break;
      default: throw Error(ErrorCode::kInvalidInput, str("not a SentencePiece model: wire type ", tag & 7));
    }
    return true;
  }
  std::uint64_t field() const { return field_; }
  std::uint64_t value() const { return value_; }
  std::string_view bytes() const { return content_; }
  float as_float() const {
    float f = 0;
    const auto word = static_cast<std::uint32_t>(value_);
    std::memcpy(&f, &word, sizeof f);
    return f;
  }

 private:
  std::string_view take(std::uint64_t n) {
    require(n <= bytes_.size(), ErrorCode::kInvalidInput, "not a SentencePiece model: a field is longer than the file");
    const std::string_view taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }
  void take_fixed(std::size_t n) {
    value_ = 0;
    const std::string_view taken = take(n);
    for (std::size_t i = 0; i < n; ++i) value_ |= static_cast<std::uint64_t>(static_cast<unsigned char>(taken[i])) << 8 * i;
  }
  std::uint64_t varint() {
    std::uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      v |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (!(byte & 0x80)) return v;
    }
    throw Error(ErrorCode::kInvalidInput, "not a SentencePiece model: a number is too long");
  }

  std::string_view bytes_, content_;
  std::uint64_t field_ = 0, value_ = 0;
};

enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
struct Piece {
  std::string text;
  double score = 0;
  int type = kNormal;
};
struct SentencePieceModel {
  std::vector<Piece> pieces;
  bool unigram = true, byte_fallback = false, add_dummy_prefix = true, remove_extra_whitespaces = true;
  std::string charsmap;

  std::int64_t index_of(int type) const {
    for (std::size_t i = 0; i < pieces.size(); ++i)
      if (pieces[i].type == type) return static_cast<std::int64_t>(i);
    return -1;
  }
};

Piece read_piece(std::string_view bytes) {
  Piece p;
  for (MessageReader r(bytes); r.next();) {
    if (r.field() == 1) p.text = unicode::repair(r.bytes());
    if (r.field() == 2) p.score = static_cast<double>(r.as_float());
    if (r.field() == 3) p.type = static_cast<int>(r.value());
  }
  constexpr std::size_t kLongestPiece = 4096;  // every way to cut a piece in two is tried
  require(p.text.size() <= kLongestPiece, ErrorCode::kInvalidInput, "not a SentencePiece model: a piece of ", p.text.size(),
          " bytes");
  return p;
}

SentencePieceModel read_model(std::string_view file) {
  SentencePieceModel m;
  for (MessageReader r(file); r.next();) {
    if (r.field() == 1) m.pieces.push_back(read_piece(r.bytes()));
    if (r.field() == 2)  // trainer_spec
      for (MessageReader t(r.bytes()); t.next();) {
        if (t.field() == 3) {
          require(t.value() == 1 || t.value() == 2, ErrorCode::kUnsupported, "SentencePiece model type ", t.value(),
                  " is neither unigram nor bpe");
          m.unigram = t.value() == 1;
        }
        if (t.field() == 35) m.byte_fallback = t.value() != 0;
      }
    if (r.field() == 3)  // normalizer_spec
      for (MessageReader n(r.bytes()); n.next();) {
        if (n.field() == 2) m.charsmap = n.bytes();
        if (n.field() == 3) m.add_dummy_prefix = n.value() != 0;
        if (n.field() == 4) m.remove_extra_whitespaces = n.value() != 0;
      }
  }
  require(!m.pieces.empty(), ErrorCode::kInvalidInput, "not a SentencePiece model: no pieces");
  return m;
}

std::string encode_base64(std::string_view bytes) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) out.push_back(i + k <= bytes.size() ? kAlphabet[bits >> (18 - 6 * k) & 63] : '=');
  }
  return out;
}

/// SentencePiece merges the pair whose result has the best score; tokenizers wants the pairs in that order.
Json merges_of(const std::vector<Piece>& pieces) {
  std::unordered_map<std::string, std::size_t> ids;
  for (std::size_t i = 0; i < pieces.size(); ++i) ids[pieces[i].text] = i;
  struct Merge {
    double score;
    std::size_t left, right;
  };
  std::vector<Merge> merges;
  for (const Piece& p : pieces) {
    if (p.type != kNormal && p.type != kUserDefined) continue;
    const std::size_t first = merges.size();
    for (std::size_t cut = 1; cut < p.text.size(); ++cut) {
      const auto left = ids.find(p.text.substr(0, cut)), right = ids.find(p.text.substr(cut));
      if (left != ids.end() && right != ids.end()) merges.push_back({p.score, left->second, right->second});
    }
    std::sort(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(),
              [](const Merge& a, const Merge& b) { return std::pair(a.left, a.right) < std::pair(b.left, b.right); });
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) { return a.score > b.score; });
  Json out = Json::array();
  for (const Merge& m : merges) out.push_back({pieces[m.left].text, pieces[m.right].text});
  return out;
}

Json special_piece(const std::string& token, int type_id) { return {{"SpecialToken", {{"id", token}, {"type_id", type_id}}}}; }
Json sequence_piece(const char* id, int type_id) { return {{"Sequence", {{"id", id}, {"type_id", type_id}}}}; }

class Converter {
 public:
  Converter(SentencePieceModel model, const TokenizerFiles& files) : m_(std::move(model)), config_(files.config) {
    const std::string type = json_string(config_, "tokenizer_class", files.model_type);
    const auto is = [&](std::string_view a, std::string_view b) { return type.starts_with(a) || type == b; };
    fairseq_ = is("XLMRoberta", "xlm-roberta");
    albert_ = is("Albert", "albert");
    t5_ = is("T5", "t5");
    if (fairseq_) {  // fairseq's four specials in front, SentencePiece's own three left out, <mask> behind
      std::vector<Piece> pieces = {{"<s>", 0, kControl}, {"<pad>", 0, kControl}, {"</s>", 0, kControl}, {"<unk>", 0, kUnknown}};
      pieces.insert(pieces.end(), m_.pieces.begin() + std::min<std::ptrdiff_t>(3, std::ssize(m_.pieces)), m_.pieces.end());
      pieces.push_back({"<mask>", 0, kControl});
      m_.pieces = std::move(pieces);
    }
    if (t5_)
      for (std::int64_t n = json_int(config_, "extra_ids", 0, 10000, 100); n-- > 0;)
        m_.pieces.push_back({"<extra_id_" + std::to_string(n) + ">", 0, kUserDefined});
  }

  Json run() const {
    Json added = Json::array();
    for (std::size_t i = 0; i < m_.pieces.size(); ++i) {
      const Piece& p = m_.pieces[i];
      if (p.type != kUnknown && p.type != kControl && p.type != kUserDefined) continue;
      const bool mask = p.text == "<mask>" || p.text == "[MASK]";
      added.push_back(
          {{"id", i}, {"content", p.text}, {"special", p.type != kUserDefined || t5_}, {"normalized", false}, {"lstrip", mask}});
    }
    const bool metaspace = m_.unigram;
    const char* prepend = m_.add_dummy_prefix ? "always" : "never";
    const Json space = {{"type", "Metaspace"}, {"prepend_scheme", prepend}};
    Json pre_tokenizer;
    if (metaspace)
      pre_tokenizer = m_.remove_extra_whitespaces
                          ? Json{{"type", "Sequence"}, {"pretokenizers", {{{"type", "WhitespaceSplit"}}, space}}}
                          : space;
    return {{"added_tokens", added}, {"normalizer", normalizer(!metaspace)}, {"pre_tokenizer", pre_tokenizer},
            {"model", model()},      {"post_processor", post_processor()},   {"decoder", metaspace ? space : llama_decoder()}};
  }

 private:
  Json normalizer(bool spaces) const {
    Json list = Json::array();
    if (albert_) {
      for (const char* quote : {"``", "''"})
        list.push_back({{"type", "Replace"}, {"pattern", {{"String", quote}}}, {"content", "\""}});
      if (!json_bool(config_, "keep_accents", false)) {
        list.push_back({{"type", "NFKD"}});
        list.push_back({{"type", "StripAccents"}});
      }
      if (json_bool(config_, "do_lower_case", true)) list.push_back({{"type", "Lowercase"}});
    }
    if (!m_.charsmap.empty()) list.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", encode_base64(m_.charsmap)}});
    if (m_.remove_extra_whitespaces) {
      if (spaces) list.push_back({{"type", "Strip"}});
      list.push_back({{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}});
    }
    if (spaces) {
      if (m_.add_dummy_prefix) list.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
      list.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}});
    }
    return {{"type", "Sequence"}, {"normalizers", list}};
  }

  Json model() const {
    const std::int64_t unk = m_.index_of(kUnknown);
    if (m_.unigram) {
      Json vocab = Json::array();
      for (const Piece& p : m_.pieces) vocab.push_back({p.text, p.score});
      return {
          {"type", "Unigram"}, {"vocab", vocab}, {"unk_id", unk >= 0 ? Json(unk) : Json()}, {"byte_fallback", m_.byte_fallback}};
    }
    Json vocab = Json::object();
    for (std::size_t i = 0; i < m_.pieces.size(); ++i) vocab[m_.pieces[i].text] = i;
    return {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", merges_of(m_.pieces)},
            {"unk_token", unk >= 0 ? Json(m_.pieces[static_cast<std::size_t>(unk)].text) : Json()},
            {"fuse_unk", true},
            {"byte_fallback", m_.byte_fallback}};
  }

  static Json llama_decoder() {
    return {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  }

  Json post_processor() const {
    std::vector<std::string> front, middle, back;
    int second = 0;
    if (albert_) {
      front = {"[CLS]"};
      middle = back = {"[SEP]"};
      second = 1;
    } else if (fairseq_) {
      front = {"<s>"};
      middle = {"</s>", "</s>"};
      back = {"</s>"};
    } else if (t5_) {
      middle = back = {"</s>"};
    } else {
      if (json_bool(config_, "add_bos_token", true)) front = {"<s>"};
      if (json_bool(config_, "add_eos_token", false)) back = {"</s>"};
      middle = back;
      middle.insert(middle.end(), front.begin(), front.end());
    }
    Json single = Json::array(), pair = Json::array(), specials = Json::object();
    const auto add = [&](Json& to, const std::vector<std::string>& tokens, int type_id) {
      for (const std::string& t : tokens) {
        const auto piece = std::find_if(m_.pieces.begin(), m_.pieces.end(), [&](const Piece& p) { return p.text == t; });
        if (piece == m_.pieces.end()) continue;
        specials[t] = {{"ids", {piece - m_.pieces.begin()}}};
        to.push_back(special_piece(t, type_id));
      }
    };
    add(single, front, 0);
    single.push_back(sequence_piece("A", 0));
    add(single, back, 0);
    add(pair, front, 0);
    pair.push_back(sequence_piece("A", 0));
    add(pair, middle, 0);
    pair.push_back(sequence_piece("B", second));
    add(pair, back, second);
    return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
  }

  SentencePieceModel m_;
  const Json& config_;
  bool fairseq_ = false, albert_ = false, t5_ = false;
};

}  // namespace

Json json_of_sentencepiece(std::string_view bytes, const TokenizerFiles& files) {
  return Converter(read_model(bytes), files).run();
}

Json json_of_sentencepiece(const fs::path& path, const TokenizerFiles& files) {
  try {
    return json_of_sentencepiece(std::string_view(read_text_file(path)), files);
  } catch (const Error& e) {
    throw Error(e.code(), path.string() + ": " + e.what());
  }
}

}  // namespace quell
