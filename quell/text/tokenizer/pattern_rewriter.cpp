#include "quell/text/tokenizer/pattern_rewriter.h"

#include <algorithm>
#include <optional>

#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

/// Sets without a negation inside, which Oniguruma 6.9.8 gets wrong where case is ignored.
struct PosixClass {
  std::u32string_view name;
  std::u32string_view set, complement;  ///< between brackets
};

constexpr PosixClass kClasses[] = {
    {U"[:punct:]", UR"(\p{P}\p{S})", UR"(\p{L}\p{M}\p{N}\p{Z}\p{C})"},
    {U"[:graph:]", UR"(\p{L}\p{M}\p{N}\p{P}\p{S}\p{Cf}\p{Co})", UR"(\p{Z}\p{Cc}\p{Cn}\p{Cs})"},
    {U"[:print:]", UR"(\p{L}\p{M}\p{N}\p{P}\p{S}\p{Cf}\p{Co}\p{Zs})", UR"(\p{Zl}\p{Zp}\p{Cc}\p{Cn}\p{Cs})"},
};

bool is_octal(char32_t c) { return c >= U'0' && c <= U'7'; }
bool is_decimal(char32_t c) { return c >= U'0' && c <= U'9'; }
bool is_hexadecimal(char32_t c) { return is_decimal(c) || (c >= U'a' && c <= U'f') || (c >= U'A' && c <= U'F'); }

class Rewriter {
 public:
  explicit Rewriter(std::u32string_view pattern) : p_(pattern) {}

  std::u32string rewrite() {
    while (at_ < p_.size()) {
      if (p_[at_] == U'\\')
        escape();
      else if (depth_ == 0 || !posix_class())
        plain();
    }
    return std::move(out_);
  }

 private:
  bool is_at(std::size_t at, char32_t c) const { return at < p_.size() && p_[at] == c; }
  void copy(std::size_t count) {
    const std::u32string_view part = p_.substr(at_, count);
    out_ += part;
    at_ += part.size();
  }

  void plain() {
    const char32_t c = p_[at_];
    copy(1);
    if (c == U'[') {
      ++depth_;
      if (is_at(at_, U'^')) copy(1);
      if (is_at(at_, U']')) copy(1);  // stands for itself there
    } else if (c == U']' && depth_ > 0) {
      --depth_;
    } else if (c == U'(' && depth_ == 0) {
      const bool named = p_.substr(at_).starts_with(U"?<") && !is_at(at_ + 2, U'=') && !is_at(at_ + 2, U'!');
      if (!is_at(at_, U'?') || named) ++groups_;
    }
  }

  bool posix_class() {
    for (const PosixClass& known : kClasses) {
      const std::u32string negated = U"[:^" + std::u32string(known.name.substr(2));
      const bool plain = p_.substr(at_).starts_with(known.name);
      if (!plain && !p_.substr(at_).starts_with(negated)) continue;

      out_ += plain ? known.set : known.complement;
      at_ += plain ? known.name.size() : negated.size();
      return true;
    }
    if (!p_.substr(at_).starts_with(U"[:")) return false;

    // Another class: its brackets open no set.
    const std::size_t end = p_.find(U":]", at_);
    if (end == std::u32string_view::npos) return false;
    copy(end + 2 - at_);
    return true;
  }

  void escape() {
    std::string bytes;
    std::size_t end = at_;
    while (const std::optional<Byte> byte = byte_at(end)) {
      bytes.push_back(static_cast<char>(byte->value));
      end = byte->end;
      if (unicode::is_valid_utf8(bytes)) {
        put(unicode::decode(bytes)[0]);
        at_ = end;
        return;
      }
      if (bytes.size() == 4) break;
    }
    copy(2);  // something else, or bytes that make no character, about which Oniguruma has its say
  }

  void put(char32_t c) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::u32string digits;
    for (char32_t rest = c; rest > 0 || digits.empty(); rest /= 16)
      digits.insert(digits.begin(), static_cast<char32_t>(kDigits[rest % 16]));
    out_ += U"\\x{" + digits + U"}";
  }

  struct Byte {
    unsigned value;
    std::size_t end;  ///< behind the escape
  };

  /// The byte that an escape at `at` stands for, if it does.
  std::optional<Byte> byte_at(std::size_t at) const {
    if (!is_at(at, U'\\') || at + 1 >= p_.size()) return std::nullopt;
    const char32_t c = p_[at + 1];
    if (c == U'x') return number_at(at + 2, 2, 16);
    if (c == U'0') return number_at(at + 1, 3, 8);
    if (!is_octal(c)) return std::nullopt;

    if (depth_ == 0 && is_group(at + 1)) return std::nullopt;
    return number_at(at + 1, 3, 8);
  }

  std::optional<Byte> number_at(std::size_t at, std::size_t most_digits, unsigned base) const {
    Byte byte{0, at};
    while (byte.end < std::min(p_.size(), at + most_digits)) {
      const char32_t c = p_[byte.end];
      if (base == 8 ? !is_octal(c) : !is_hexadecimal(c)) break;
      const unsigned digit = is_decimal(c) ? static_cast<unsigned>(c - U'0') : static_cast<unsigned>((c | 0x20) - U'a' + 10);
      byte.value = byte.value * base + digit;
      ++byte.end;
    }
    const bool too_big = byte.value > 0xFF;
    if (byte.end == at || (too_big && depth_ > 0)) return std::nullopt;
    byte.value &= 0xFF;
    return byte;
  }

  /// Whether the number stands for what a group found: one digit always does, more do where there are so many groups.
  bool is_group(std::size_t at) const {
    std::size_t number = 0;
    for (; at < p_.size() && is_decimal(p_[at]) && number <= groups_ + 9; ++at) number = number * 10 + (p_[at] - U'0');
    return number <= std::max<std::size_t>(groups_, 9);
  }

  std::u32string_view p_;
  std::u32string out_;
  std::size_t at_ = 0;
  int depth_ = 0;           ///< of brackets
  std::size_t groups_ = 0;  ///< that have begun so far
};

}  // namespace

std::u32string rewrite_pattern(std::u32string_view pattern) { return Rewriter(pattern).rewrite(); }

}  // namespace quell
