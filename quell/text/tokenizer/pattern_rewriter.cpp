#include "quell/text/tokenizer/pattern_rewriter.h"

#include <algorithm>
#include <optional>

#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

struct PosixClass {
  std::u32string_view name, negated_name;
  std::string_view categories;  ///< their names, with spaces around each
};

constexpr PosixClass kPosixClasses[] = {
    {U"[:punct:]", U"[:^punct:]", " Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So "},
    {U"[:graph:]", U"[:^graph:]",
     " Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Cf Co "},
    {U"[:print:]", U"[:^print:]",
     " Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Cf Co Zs "},
};

void append_character(std::u32string& out, char32_t c) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::u32string digits;
  for (char32_t rest = c; rest > 0 || digits.empty(); rest /= 16)
    digits.insert(digits.begin(), static_cast<char32_t>(kDigits[rest % 16]));
  out += U"\\x{" + digits + U"}";
}

/// The characters of a class, or all others, as ranges to stand between brackets. There is no
/// negation among them, which Oniguruma 6.9.8 gets wrong where case is ignored.
std::u32string ranges_of(const PosixClass& posix, bool others) {
  constexpr char32_t kEnd = 0x110000;
  const auto is_inside = [&](char32_t c) {
    if (c == kEnd || (c >= 0xD800 && c < 0xE000)) return false;
    const std::string_view name =
        unicode::kCategoryNames[static_cast<std::size_t>(unicode::category(c))];
    return (posix.categories.find(name) != std::string_view::npos) != others;
  };

  std::u32string out;
  char32_t begin = kEnd;  // of the range that is open
  for (char32_t c = 0; c <= kEnd; ++c) {
    const bool inside = is_inside(c);
    if (inside && begin == kEnd) begin = c;
    if (inside || begin == kEnd) continue;

    append_character(out, begin);
    out += U'-';
    append_character(out, c - 1);
    begin = kEnd;
  }
  return out;
}

bool is_octal(char32_t c) { return c >= U'0' && c <= U'7'; }
bool is_decimal(char32_t c) { return c >= U'0' && c <= U'9'; }
bool is_hexadecimal(char32_t c) {
  return is_decimal(c) || (c >= U'a' && c <= U'f') || (c >= U'A' && c <= U'F');
}

class Rewriter {
 public:
  Rewriter(std::u32string_view pattern, bool spell_out) : p_(pattern), spell_out_(spell_out) {}

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
      const bool named =
          p_.substr(at_).starts_with(U"?<") && !is_at(at_ + 2, U'=') && !is_at(at_ + 2, U'!');
      if (!is_at(at_, U'?') || named) ++groups_;
    }
  }

  bool posix_class() {
    for (const PosixClass& known : kPosixClasses) {
      const bool plain = p_.substr(at_).starts_with(known.name);
      const bool negated = p_.substr(at_).starts_with(known.negated_name);
      if (!spell_out_ || (!plain && !negated)) continue;

      out_ += ranges_of(known, negated);
      at_ += plain ? known.name.size() : known.negated_name.size();
      return true;
    }
    if (!p_.substr(at_).starts_with(U"[:")) return false;

    // A class that stays: its brackets open no set.
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
        append_character(out_, unicode::decode(bytes)[0]);
        at_ = end;
        return;
      }
      if (bytes.size() == 4) break;
    }
    copy(2);  // something else, or bytes that make no character, about which Oniguruma has its say
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
      const unsigned digit = is_decimal(c) ? static_cast<unsigned>(c - U'0')
                                           : static_cast<unsigned>((c | 0x20) - U'a' + 10);
      byte.value = byte.value * base + digit;
      ++byte.end;
    }
    const bool too_big = byte.value > 0xFF;
    if (byte.end == at || (too_big && depth_ > 0)) return std::nullopt;
    byte.value &= 0xFF;
    return byte;
  }

  /// Whether the number stands for what a group found: one digit always does, more do where there
  /// are so many groups.
  bool is_group(std::size_t at) const {
    std::size_t number = 0;
    for (; at < p_.size() && is_decimal(p_[at]) && number <= groups_ + 9; ++at)
      number = number * 10 + (p_[at] - U'0');
    return number <= std::max<std::size_t>(groups_, 9);
  }

  std::u32string_view p_;
  bool spell_out_;
  std::u32string out_;
  std::size_t at_ = 0;
  int depth_ = 0;           ///< of brackets
  std::size_t groups_ = 0;  ///< that have begun so far
};

}  // namespace

std::u32string rewrite_pattern(std::u32string_view pattern, bool spell_out) {
  return Rewriter(pattern, spell_out).rewrite();
}

}  // namespace quell
