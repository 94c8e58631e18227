#include "quell/text/tokenizer/sentencepiece.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <unordered_map>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
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
      default:
        throw Error(ErrorCode::kInvalidInput,
                    str("not a SentencePiece model: wire type ", tag & 7));
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
    require(n <= bytes_.size(), ErrorCode::kInvalidInput,
            "not a SentencePiece model: a field is longer than the file");
    const std::string_view taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }
  void take_fixed(std::size_t n) {
    value_ = 0;
    const std::string_view taken = take(n);
    for (std::size_t i = 0; i < n; ++i)
      value_ |= static_cast<std::uint64_t>(static_cast<unsigned char>(taken[i])) << 8 * i;
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

using Piece = SentencePieceModel::Piece;

Piece read_piece(std::string_view bytes) {
  Piece p;
  for (MessageReader r(bytes); r.next();) {
    if (r.field() == 1) p.text = unicode::repair(r.bytes());
    if (r.field() == 2) p.score = static_cast<double>(r.as_float());
    if (r.field() == 3) p.type = static_cast<int>(r.value());
  }
  constexpr std::size_t kLongestPiece = 4096;  // every way to cut a piece in two is tried
  require(p.text.size() <= kLongestPiece, ErrorCode::kInvalidInput,
          "not a SentencePiece model: a piece of ", p.text.size(), " bytes");
  return p;
}

std::string text_of(std::string_view bytes) { return unicode::repair(bytes); }

void read_trainer(std::string_view bytes, SentencePieceModel& m) {
  for (MessageReader t(bytes); t.next();) {
    const auto id = static_cast<std::int32_t>(static_cast<std::uint32_t>(t.value()));
    switch (t.field()) {
      case 3:
        require(t.value() == 1 || t.value() == 2, ErrorCode::kUnsupported,
                "SentencePiece model type ", t.value(), " is neither unigram nor bpe");
        m.unigram = t.value() == 1;
        break;
      case 35: m.byte_fallback = t.value() != 0; break;
      case 40: m.unk_id = id; break;
      case 41: m.bos_id = id; break;
      case 42: m.eos_id = id; break;
      case 45: m.unk_piece = text_of(t.bytes()); break;
      case 46: m.bos_piece = text_of(t.bytes()); break;
      case 47: m.eos_piece = text_of(t.bytes()); break;
      default: break;
    }
  }
}

void read_normalizer(std::string_view bytes, SentencePieceModel& m) {
  for (MessageReader n(bytes); n.next();) {
    if (n.field() == 2) m.charsmap = n.bytes();
    if (n.field() == 3) m.add_dummy_prefix = n.value() != 0;
    if (n.field() == 4) m.remove_extra_whitespaces = n.value() != 0;
    if (n.field() == 5) m.escape_whitespaces = n.value() != 0;
  }
}

}  // namespace

SentencePieceModel read_sentencepiece(std::string_view file) {
  SentencePieceModel m;
  for (MessageReader r(file); r.next();) {
    if (r.field() == 1) m.pieces.push_back(read_piece(r.bytes()));
    if (r.field() == 2) read_trainer(r.bytes(), m);
    if (r.field() == 3) read_normalizer(r.bytes(), m);
  }
  require(!m.pieces.empty(), ErrorCode::kInvalidInput, "not a SentencePiece model: no pieces");
  return m;
}

std::string SentencePieceModel::charsmap_base64() const {
  const std::string_view bytes = charsmap;
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k)
      out.push_back(i + k <= bytes.size() ? kAlphabet[bits >> (18 - 6 * k) & 63] : '=');
  }
  return out;
}

namespace {

struct Merge {
  std::string left, right;
  std::int64_t left_id, right_id;
};

/// Ways to cut `text` in two pieces of `ids`, at the ends of characters.
std::vector<Merge> cuts_of(const std::string& text,
                           const std::unordered_map<std::string, std::int64_t>& ids) {
  std::vector<Merge> merges;
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    if ((static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) continue;
    const auto left = ids.find(text.substr(0, cut));
    if (left == ids.end()) continue;
    const auto right = ids.find(text.substr(cut));
    if (right != ids.end())
      merges.push_back({left->first, right->first, left->second, right->second});
  }
  return merges;
}

}  // namespace

Json merges_by_id(const Json& vocab) {
  std::unordered_map<std::string, std::int64_t> ids;
  std::map<std::int64_t, std::string> tokens;
  for (const auto& [token, id] : vocab.items()) {
    ids[token] = id.get<std::int64_t>();
    tokens[id.get<std::int64_t>()] = token;
  }

  Json out = Json::array();
  for (const auto& [id, token] : tokens) {
    std::vector<Merge> merges = cuts_of(token, ids);
    const auto characters = [](const std::string& s) { return unicode::decode(s).size(); };
    std::stable_sort(merges.begin(), merges.end(), [&](const Merge& a, const Merge& b) {
      return characters(a.left) < characters(b.left);
    });
    for (const Merge& m : merges) out.push_back({m.left, m.right});
  }
  return out;
}

Json merges_by_score(const SentencePieceModel& model, const std::vector<std::string>& names) {
  std::unordered_map<std::string, std::int64_t> ids;
  for (std::size_t i = 0; i < model.pieces.size(); ++i)
    if (model.pieces[i].type == SentencePieceModel::kNormal)
      ids[names[i]] = static_cast<std::int64_t>(i);

  struct Ranked {
    double score;
    std::int64_t id;
    Merge merge;
  };
  std::vector<Ranked> ranked;
  for (const auto& [token, id] : ids)
    for (Merge& merge : cuts_of(token, ids))
      ranked.push_back({-model.pieces[static_cast<std::size_t>(id)].score, id, std::move(merge)});
  std::sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) {
    return std::tie(a.score, a.id, a.merge.left, a.merge.right) <
           std::tie(b.score, b.id, b.merge.left, b.merge.right);
  });

  Json out = Json::array();
  for (const Ranked& r : ranked) out.push_back({r.merge.left, r.merge.right});
  return out;
}

}  // namespace quell
