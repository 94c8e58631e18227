// GPT-2's byte-level BPE (Radford et al. 2019; behaviour of huggingface/tokenizers): bytes are mapped to printable
// characters, words come from a regular expression, pairs merge by rank.
#include <oniguruma.h>

#include <array>
#include <mutex>
#include <queue>

#include "quell/base/error.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

constexpr std::string_view kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// byte -> character: printable Latin-1 bytes stand for themselves, the others follow from U+0100.
const std::array<char32_t, 256>& byte_characters() {
  static const std::array<char32_t, 256> table = [] {
    std::array<char32_t, 256> t{};
    char32_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      t[b] = printable ? static_cast<char32_t>(b) : next++;
    }
    return t;
  }();
  return table;
}

std::optional<unsigned char> byte_of(char32_t c) {
  static const std::unordered_map<char32_t, unsigned char> table = [] {
    std::unordered_map<char32_t, unsigned char> t;
    for (unsigned b = 0; b < 256; ++b) t[byte_characters()[b]] = static_cast<unsigned char>(b);
    return t;
  }();
  const auto it = table.find(c);
  return it == table.end() ? std::nullopt : std::optional(it->second);
}

/// A compiled Oniguruma pattern over UTF-8.
class Regex {
 public:
  explicit Regex(std::string_view pattern) {
    static std::once_flag once;
    std::call_once(once, [] {
      OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
      onig_initialize(encodings, 1);
    });
    const auto* p = reinterpret_cast<const OnigUChar*>(pattern.data());
    OnigErrorInfo info;
    const int status = onig_new(&regex_, p, p + pattern.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
    require(status == ONIG_NORMAL, ErrorCode::kInvalidInput, "tokenizer: pattern ", pattern, " does not compile (Oniguruma ",
            status, ")");
  }
  ~Regex() { onig_free(regex_); }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  /// Calls `f(begin, end)` with the byte ranges of all matches and of the gaps between them, in order.
  template <typename F>
  void for_each_piece(const std::string& text, F f) const {
    const auto* begin = reinterpret_cast<const OnigUChar*>(text.data());
    const auto* end = begin + text.size();
    OnigRegion* region = onig_region_new();
    std::size_t done = 0;
    int status = 0;
    for (std::size_t at = 0; at < text.size();) {
      status = onig_search(regex_, begin, end, begin + at, end, region, ONIG_OPTION_NONE);
      if (status < 0) break;
      const auto match_begin = static_cast<std::size_t>(region->beg[0]), match_end = static_cast<std::size_t>(region->end[0]);
      if (match_begin > done) f(done, match_begin);
      if (match_end > match_begin) f(match_begin, match_end);
      done = match_end;
      at = match_end > at ? match_end : at + 1;
    }
    onig_region_free(region, 1);
    require(status >= ONIG_MISMATCH, ErrorCode::kInvalidInput, "tokenizer: pattern search gave up (Oniguruma ", status, ")");
    if (done < text.size()) f(done, text.size());
  }

 private:
  regex_t* regex_ = nullptr;
};

class ByteLevelPreTokenizer final : public PreTokenizer {
 public:
  ByteLevelPreTokenizer(bool add_prefix_space, bool use_regex) : add_prefix_space_(add_prefix_space) {
    if (use_regex) regex_ = std::make_unique<Regex>(kGpt2Pattern);
  }

  void split(std::u32string_view text, std::vector<std::u32string>& out) const override {
    if (text.empty()) return;
    std::string utf8 = unicode::encode(text);
    if (add_prefix_space_ && utf8.front() != ' ') utf8.insert(utf8.begin(), ' ');
    const auto emit = [&](std::size_t begin, std::size_t end) {
      std::u32string piece;
      piece.reserve(end - begin);
      for (std::size_t i = begin; i < end; ++i) piece.push_back(byte_characters()[static_cast<unsigned char>(utf8[i])]);
      out.push_back(std::move(piece));
    };
    if (regex_)
      regex_->for_each_piece(utf8, emit);
    else
      emit(0, utf8.size());
  }

 private:
  bool add_prefix_space_;
  std::unique_ptr<Regex> regex_;
};

class ByteLevelBpe final : public TokenModel {
 public:
  ByteLevelBpe(const Json& vocab, const Json& merges, bool ignore_merges) : vocab_(vocab), ignore_merges_(ignore_merges) {
    require(merges.is_array(), ErrorCode::kInvalidInput, "tokenizer: merges is not an array");
    std::int32_t rank = 0;
    for (const Json& merge : merges) {
      const auto [left, right] = parse_merge(merge);
      const std::int32_t a = need(left, merge), b = need(right, merge), joined = need(left + right, merge);
      merges_.emplace(key(a, b), std::pair(rank++, joined));
    }
  }

  void tokenize(std::u32string_view piece, std::vector<std::int32_t>& ids) const override {
    if (ignore_merges_) {
      if (const auto id = vocab_.find(unicode::encode(piece))) {
        ids.push_back(*id);
        return;
      }
    }
    std::vector<Symbol> symbols;
    symbols.reserve(piece.size());
    for (const char32_t c : piece) {
      const auto id = vocab_.find(unicode::encode({&c, 1}));
      if (!id) continue;  // a byte the vocabulary lacks is dropped, as the reference does without an unknown token
      const auto at = static_cast<std::int32_t>(symbols.size());
      symbols.push_back({*id, at - 1, at + 1});
    }
    if (symbols.empty()) return;
    symbols.back().next = -1;
    merge_all(symbols);
    for (std::int32_t at = 0; at >= 0; at = symbols[static_cast<std::size_t>(at)].next)
      ids.push_back(symbols[static_cast<std::size_t>(at)].id);
  }

  std::optional<std::int32_t> id_of(const std::string& token) const override { return vocab_.find(token); }
  const std::string& token_of(std::int32_t id) const override { return vocab_.token_of(id); }
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(vocab_.tokens.size()); }

 private:
  struct Symbol {
    std::int32_t id, previous, next;
  };
  struct Candidate {
    std::int32_t rank, at, left, right;
    /// Lowest rank first, then leftmost.
    bool operator<(const Candidate& other) const { return std::pair(rank, at) > std::pair(other.rank, other.at); }
  };

  static std::uint64_t key(std::int32_t a, std::int32_t b) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(a)) << 32 | static_cast<std::uint32_t>(b);
  }

  static std::pair<std::string, std::string> parse_merge(const Json& merge) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
      return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    require(merge.is_string(), ErrorCode::kInvalidInput, "tokenizer: merge ", merge.dump(), " is neither a string nor a pair");
    const auto text = merge.get<std::string>();
    const std::size_t space = text.find(' ');
    require(space != std::string::npos && text.find(' ', space + 1) == std::string::npos, ErrorCode::kInvalidInput,
            "tokenizer: merge \"", text, "\" is not two tokens");
    return {text.substr(0, space), text.substr(space + 1)};
  }

  std::int32_t need(const std::string& token, const Json& merge) const {
    const auto id = vocab_.find(token);
    require(id.has_value(), ErrorCode::kInvalidInput, "tokenizer: merge ", merge.dump(), " needs token \"", token,
            "\", which the vocabulary lacks");
    return *id;
  }

  void merge_all(std::vector<Symbol>& symbols) const {
    std::priority_queue<Candidate> queue;
    const auto propose = [&](std::int32_t at) {
      if (at < 0) return;
      const Symbol& left = symbols[static_cast<std::size_t>(at)];
      if (left.next < 0) return;
      const Symbol& right = symbols[static_cast<std::size_t>(left.next)];
      if (const auto it = merges_.find(key(left.id, right.id)); it != merges_.end())
        queue.push({it->second.first, at, left.id, right.id});
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) propose(static_cast<std::int32_t>(i));
    while (!queue.empty()) {
      const Candidate c = queue.top();
      queue.pop();
      Symbol& left = symbols[static_cast<std::size_t>(c.at)];
      if (left.id != c.left || left.next < 0) continue;  // stale
      Symbol& right = symbols[static_cast<std::size_t>(left.next)];
      if (right.id != c.right) continue;
      left.id = merges_.at(key(c.left, c.right)).second;
      right.id = -1;
      left.next = right.next;
      if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = c.at;
      propose(left.previous);
      propose(c.at);
    }
  }

  Vocabulary vocab_;
  bool ignore_merges_;
  std::unordered_map<std::uint64_t, std::pair<std::int32_t, std::int32_t>> merges_;  // pair -> rank, joined id
};

class ByteLevelDecoder final : public Decoder {
 public:
  std::string join(const std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) {
      std::string mapped;
      bool whole = true;
      for (const char32_t c : unicode::decode(token)) {
        const auto byte = byte_of(c);
        whole &= byte.has_value();
        if (byte) mapped.push_back(static_cast<char>(*byte));
      }
      bytes += whole ? mapped : token;  // an added token outside the byte alphabet stands for itself
    }
    return unicode::repair(bytes);
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> make_byte_level_pre_tokenizer(bool add_prefix_space, bool use_regex) {
  return std::make_unique<ByteLevelPreTokenizer>(add_prefix_space, use_regex);
}
std::unique_ptr<TokenModel> make_byte_level_bpe(const Json& vocab, const Json& merges, bool ignore_merges) {
  return std::make_unique<ByteLevelBpe>(vocab, merges, ignore_merges);
}
std::unique_ptr<Decoder> make_byte_level_decoder() { return std::make_unique<ByteLevelDecoder>(); }

}  // namespace quell
