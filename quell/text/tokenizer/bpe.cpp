// Byte-pair encoding (Sennrich et al. 2016) in the variants of huggingface/tokenizers: over
// characters or a byte alphabet, with unknown tokens, byte fallback, prefixes and suffixes.
#include <algorithm>
#include <mutex>
#include <queue>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/byte_alphabet.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/flat_map.h"

namespace quell {
namespace {

/// Tokens of pieces met before. A direct-mapped table: bounded, and a hit costs one comparison.
class PieceCache {
 public:
  bool find(std::u32string_view piece, std::vector<PieceToken>& out) {
    if (piece.size() > kMaxLength) return false;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || entries_.empty()) return false;
    const Entry& e = entries_[slot(piece)];
    if (e.piece != piece) return false;
    out.insert(out.end(), e.tokens.begin(), e.tokens.end());
    return true;
  }
  void insert(std::u32string_view piece, std::span<const PieceToken> tokens) {
    if (piece.size() > kMaxLength) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    if (entries_.empty()) entries_.resize(kEntries);
    Entry& e = entries_[slot(piece)];
    e.piece.assign(piece);
    e.tokens.assign(tokens.begin(), tokens.end());
  }

 private:
  static constexpr std::size_t kEntries = 1 << 16, kMaxLength = 32;
  struct Entry {
    std::u32string piece;
    std::vector<PieceToken> tokens;
  };
  static std::size_t slot(std::u32string_view piece) {
    std::uint64_t h = piece.size();
    for (const char32_t c : piece) h = (h ^ c) * 0x9E3779B97F4A7C15U;
    return static_cast<std::size_t>(h >> 40) & (kEntries - 1);
  }

  std::mutex mutex_;
  std::vector<Entry> entries_;
};

class Bpe final : public TokenModel {
 public:
  explicit Bpe(const Settings& json)
      : vocab_(json.value("vocab")),
        prefix_(json_string(json, "continuing_subword_prefix", "")),
        suffix_(json_string(json, "end_of_word_suffix", "")),
        fuse_unk_(json_bool(json, "fuse_unk", false)),
        ignore_merges_(json_bool(json, "ignore_merges", false)) {
    if (!json.value("dropout").is_null() && json_number(json, "dropout", 0) != 0)
      refuse_component("model", "BPE with dropout");
    if (const std::string unk = json_string(json, "unk_token", ""); !unk.empty()) {
      unk_ = vocab_.find(unk);
      if (!unk_) missing_unk_ = unk;  // a byte-level text never needs it
    }
    if (json_bool(json, "byte_fallback", false))
      for (unsigned b = 0; b < 256; ++b)
        bytes_.push_back(vocab_.find(byte_token(static_cast<unsigned char>(b))).value_or(-1));
    for (char32_t c = 0; c < kDirect; ++c) {
      std::string utf8;
      unicode::append_utf8(utf8, c);
      direct_.push_back(vocab_.find(utf8).value_or(-1));
    }
    read_merges(json.value("merges"));
  }

  void tokenize(std::u32string_view piece, std::vector<PieceToken>& out) const override {
    if (cache_.find(piece, out)) return;
    const std::size_t first = out.size();
    tokenize_new(piece, out);
    cache_.insert(piece, std::span(out).subspan(first));
  }

  std::optional<std::int32_t> id_of(const std::string& token) const override {
    return vocab_.find(token);
  }
  const std::string& token_of(std::int32_t id) const override { return vocab_.token_of(id); }
  std::int32_t vocab_size() const override {
    return static_cast<std::int32_t>(vocab_.tokens.size());
  }
  std::int32_t entry_count() const override { return static_cast<std::int32_t>(vocab_.ids.size()); }

 private:
  static constexpr char32_t kDirect = 0x180;  ///< characters whose ids are looked up by number

  struct Symbol {
    std::int32_t id, previous, next;
    std::uint32_t begin, end;
  };
  struct Merge {
    std::int32_t rank = 0, joined = 0;
  };
  struct Candidate {
    std::int32_t rank, at, joined;
    /// Lowest rank first, then leftmost.
    bool operator<(const Candidate& other) const {
      return std::pair(rank, at) > std::pair(other.rank, other.at);
    }
  };

  static std::uint64_t key(std::int32_t a, std::int32_t b) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(a)) << 32 |
           static_cast<std::uint32_t>(b);
  }

  static std::pair<std::string, std::string> parse_merge(const Json& merge) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
      return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    require(merge.is_string(), ErrorCode::kInvalidInput, "tokenizer: merge ", merge.dump(),
            " is neither a string nor a pair");
    const auto text = merge.get<std::string>();
    const std::size_t space = text.find(' ');
    require(space != std::string::npos && text.find(' ', space + 1) == std::string::npos,
            ErrorCode::kInvalidInput, "tokenizer: merge \"", text, "\" is not two tokens");
    return {text.substr(0, space), text.substr(space + 1)};
  }

  void read_merges(const Json& merges) {
    require(merges.is_array(), ErrorCode::kInvalidInput, "tokenizer: merges is not an array");
    std::int32_t rank = 0;
    for (const Json& merge : merges) {
      const auto [left, right] = parse_merge(merge);
      const auto need = [&](const std::string& token) {
        const auto id = vocab_.find(token);
        require(id.has_value(), ErrorCode::kInvalidInput, "tokenizer: merge ", merge.dump(),
                " needs token \"", token, "\", which the vocabulary lacks");
        return *id;
      };
      require(right.size() >= prefix_.size(), ErrorCode::kInvalidInput, "tokenizer: merge ",
              merge.dump(), " is shorter than continuing_subword_prefix");
      const std::int32_t joined = need(left + right.substr(prefix_.size()));
      merges_.insert_or_assign(key(need(left), need(right)), {rank++, joined});
    }
  }

  std::optional<std::int32_t> id_of_character(char32_t c, bool first, bool last,
                                              std::string& utf8) const {
    const bool plain = (first || prefix_.empty()) && (!last || suffix_.empty());
    if (plain && c < kDirect) {
      const std::int32_t id = direct_[c];
      if (id >= 0) return id;
    }
    utf8 = first ? "" : prefix_;
    unicode::append_utf8(utf8, c);
    if (last) utf8 += suffix_;
    return vocab_.find(utf8);
  }

  void tokenize_new(std::u32string_view piece, std::vector<PieceToken>& out) const {
    if (ignore_merges_)
      if (const auto id = vocab_.find(unicode::encode(piece))) {
        out.push_back({*id, 0, static_cast<std::uint32_t>(piece.size())});
        return;
      }
    std::vector<Symbol> symbols;
    symbols.reserve(piece.size());
    split(piece, symbols);
    if (symbols.empty()) return;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      symbols[i].previous = static_cast<std::int32_t>(i) - 1;
      symbols[i].next = static_cast<std::int32_t>(i) + 1;
    }
    symbols.back().next = -1;
    if (symbols.size() > 1) merge_all(symbols);
    for (std::int32_t at = 0; at >= 0;) {
      const Symbol& s = symbols[static_cast<std::size_t>(at)];
      out.push_back({s.id, s.begin, s.end});
      at = s.next;
    }
  }

  /// A symbol a character; characters outside the vocabulary become bytes, the unknown token, or
  /// nothing.
  void split(std::u32string_view piece, std::vector<Symbol>& symbols) const {
    std::optional<Symbol> unk;  // waits, so that the next one can join it
    const auto flush = [&] {
      if (unk) symbols.push_back(*unk);
      unk.reset();
    };
    std::string utf8;
    for (std::uint32_t i = 0; i < piece.size(); ++i) {
      if (const auto id = id_of_character(piece[i], i == 0, i + 1 == piece.size(), utf8)) {
        flush();
        symbols.push_back({*id, 0, 0, i, i + 1});
        continue;
      }
      const auto id_of_byte = [&](char c) { return bytes_[static_cast<unsigned char>(c)]; };
      if (!bytes_.empty() &&
          std::all_of(utf8.begin(), utf8.end(), [&](char c) { return id_of_byte(c) >= 0; })) {
        for (const char c : utf8) symbols.push_back({id_of_byte(c), 0, 0, i, i + 1});
        continue;
      }
      require(missing_unk_.empty(), ErrorCode::kInvalidInput,
              "tokenizer: the text holds a character outside the vocabulary, and the "
              "unknown token \"",
              missing_unk_, "\" is not in it either");
      if (!unk_) continue;
      if (unk && fuse_unk_) {
        unk->end = i + 1;
      } else {
        flush();
        unk = Symbol{*unk_, 0, 0, i, i + 1};
      }
    }
    flush();
  }

  void merge_all(std::vector<Symbol>& symbols) const {
    std::vector<Candidate> storage;
    storage.reserve(symbols.size());
    std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(storage));
    const auto merge_of = [&](std::int32_t at) -> const Merge* {
      const Symbol& left = symbols[static_cast<std::size_t>(at)];
      return left.next < 0
                 ? nullptr
                 : merges_.find(key(left.id, symbols[static_cast<std::size_t>(left.next)].id));
    };
    const auto propose = [&](std::int32_t at) {
      if (at < 0) return;
      if (const Merge* merge = merge_of(at)) queue.push({merge->rank, at, merge->joined});
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) propose(static_cast<std::int32_t>(i));
    while (!queue.empty()) {
      const Candidate c = queue.top();
      queue.pop();
      Symbol& left = symbols[static_cast<std::size_t>(c.at)];
      if (left.id < 0) continue;  // swallowed by its neighbour
      const Merge* merge = merge_of(c.at);
      if (!merge || merge->joined != c.joined) continue;  // stale
      Symbol& right = symbols[static_cast<std::size_t>(left.next)];
      left.id = c.joined;
      left.end = right.end;
      right.id = -1;
      left.next = right.next;
      if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = c.at;
      propose(left.previous);
      propose(c.at);
    }
  }

  Vocabulary vocab_;
  std::string prefix_, suffix_;
  bool fuse_unk_, ignore_merges_;
  std::optional<std::int32_t> unk_;
  std::string missing_unk_;          ///< named, but not in the vocabulary
  std::vector<std::int32_t> bytes_;  ///< ids of <0x00> ... <0xFF>; empty without byte fallback
  std::vector<std::int32_t>
      direct_;             ///< ids of the characters below kDirect, -1 where there is none
  FlatMap<Merge> merges_;  ///< by pair
  mutable PieceCache cache_;
};

}  // namespace

std::unique_ptr<TokenModel> make_bpe(const Settings& json) { return std::make_unique<Bpe>(json); }

}  // namespace quell
