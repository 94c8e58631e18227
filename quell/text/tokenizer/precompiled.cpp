// SentencePiece's "precompiled charsmap" (Kudo and Richardson 2018): a double-array trie of UTF-8
// byte strings, whose values point into a block of NUL-terminated replacements.
#include "quell/base/error.h"
#include "quell/text/tokenizer/components.h"

namespace quell {
namespace {

std::string decode_base64(std::string_view text) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=' || c == '\n') continue;
    static constexpr std::string_view kAlphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const std::size_t value = kAlphabet.find(c);
    require(value != std::string_view::npos, ErrorCode::kInvalidInput,
            "tokenizer: precompiled_charsmap is not base64");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xFF));
    }
  }
  return out;
}

std::uint32_t read_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t v = 0;
  for (std::size_t i = 0; i < 4; ++i)
    v |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i])) << 8 * i;
  return v;
}

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(const Settings& json) {
    const std::string blob = decode_base64(json_string(json, "precompiled_charsmap", ""));
    require(blob.size() >= 4, ErrorCode::kInvalidInput,
            "tokenizer: precompiled_charsmap is too short");
    const std::size_t trie_bytes = read_u32(blob, 0);
    require(trie_bytes % 4 == 0 && trie_bytes >= 4 && trie_bytes <= blob.size() - 4,
            ErrorCode::kInvalidInput, "tokenizer: precompiled_charsmap: trie of ", trie_bytes,
            " bytes does not fit");
    for (std::size_t at = 4; at < 4 + trie_bytes; at += 4) units_.push_back(read_u32(blob, at));
    replacements_ = blob.substr(4 + trie_bytes);
  }

  void apply(AlignedText& text) const override {
    std::vector<unicode::Change> changes;
    changes.reserve(text.size());
    bool modified = false;
    std::size_t begin = 0;
    for (const std::size_t end : clusters(text.text())) {
      const std::u32string_view cluster = text.text({begin, end});
      begin = end;
      const std::string utf8 = unicode::encode(cluster);
      if (utf8.size() < 6)
        if (const auto replacement = find(utf8)) {
          append(changes, cluster.size(), *replacement);
          modified = true;
          continue;
        }
      for (const char32_t c : cluster) {
        std::string one;
        unicode::append_utf8(one, c);
        if (const auto replacement = find(one)) {
          append(changes, 1, *replacement);
          modified = true;
        } else {
          changes.push_back({c, 0});
        }
      }
    }
    if (modified) text.transform(changes);
  }

 private:
  /// Grapheme clusters; in printable ASCII each character is one, which saves the work.
  static std::vector<std::size_t> clusters(std::u32string_view text) {
    std::vector<std::size_t> ends;
    for (const char32_t c : text) {
      if (c < ' ' || c > '~') return unicode::grapheme_ends(text);
      ends.push_back(ends.size() + 1);
    }
    return ends;
  }

  /// What the shortest key that `key` starts with is replaced by.
  std::optional<std::string_view> find(std::string_view key) const {
    const auto offset = [](std::uint32_t unit) {
      return (unit >> 10) << ((unit & (1U << 9)) >> 6);
    };
    std::size_t node = offset(units_[0]);
    for (const char c : key) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte == 0) return std::nullopt;
      node ^= byte;
      if (node >= units_.size()) return std::nullopt;
      const std::uint32_t unit = units_[node];
      if ((unit & (1U << 31 | 0xFF)) != byte) return std::nullopt;
      node ^= offset(unit);
      if (node >= units_.size()) return std::nullopt;
      if ((unit >> 8 & 1) == 0) continue;
      const std::size_t at = units_[node] & ((1U << 31) - 1);
      if (at >= replacements_.size()) return std::nullopt;
      const std::size_t end = std::min(replacements_.find('\0', at), replacements_.size());
      return std::string_view(replacements_).substr(at, end - at);
    }
    return std::nullopt;
  }

  /// The first characters replace one each; what is too many was inserted, what is missing was
  /// removed behind the last.
  static void append(std::vector<unicode::Change>& changes, std::size_t old_count,
                     std::string_view replacement) {
    const std::u32string added = unicode::decode(replacement);
    for (std::size_t i = 0; i < added.size(); ++i)
      changes.push_back({added[i], i < old_count ? 0 : 1});
    if (added.size() < old_count && !changes.empty())
      changes.back().change -= static_cast<int>(old_count - added.size());
  }

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled(const Settings& json) {
  return std::make_unique<Precompiled>(json);
}

}  // namespace quell
