#include "quell/text/tokenizer/pattern_parser.h"

#include <optional>
#include <string>

namespace quell {
namespace {

using Node = PatternNode;
using Op = LinearPattern::Op;

class Parser {
 public:
  Parser(std::u32string_view pattern, std::vector<CharacterSet>& sets) : p_(pattern), sets_(sets) {}

  Node parse() {
    Node all = choice();
    if (at_ < p_.size()) throw NotLinear();
    return all;
  }

 private:
  static constexpr int kMaxDepth = 40;

  bool done() const { return at_ >= p_.size(); }
  bool accept(std::u32string_view what) {
    if (!p_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  char32_t take() {
    if (done()) throw NotLinear();
    return p_[at_++];
  }

  Node choice() {
    if (++depth_ > kMaxDepth) throw NotLinear();
    Node node;
    node.kind = Node::Kind::kChoice;
    do node.children.push_back(sequence());
    while (accept(U"|"));
    --depth_;
    return node;
  }

  Node sequence() {
    Node node;
    while (!done() && p_[at_] != U'|' && p_[at_] != U')') node.children.push_back(repeated());
    return node;
  }

  Node repeated() {
    Node node = atom();
    for (bool first = true;; first = false) {
      int min = 0;
      int max = -1;
      bool counted = false;
      if (accept(U"*")) {
      } else if (accept(U"+")) {
        min = 1;
      } else if (accept(U"?")) {
        max = 1;
      } else if (counts(min, max)) {
        counted = true;
      } else {
        return node;
      }
      if (!first) throw NotLinear();  // repeats of repeats

      Node repeat;
      repeat.kind = Node::Kind::kRepeat;
      repeat.min = min;
      repeat.max = max;
      repeat.children.push_back(std::move(node));
      node = std::move(repeat);

      if (accept(U"?")) {
        if (counted && min == max) throw NotLinear();
        node.lazy = true;
      } else if (!counted && accept(U"+")) {  // behind {n,m} the plus repeats
        node = group(Op::kAtomic, std::move(node));
      }
    }
  }

  bool number(int& value) {
    const std::size_t begin = at_;
    value = 0;
    while (!done() && p_[at_] >= U'0' && p_[at_] <= U'9') {
      value = value * 10 + static_cast<int>(p_[at_++] - U'0');
      if (value > 1000) throw NotLinear();
    }
    return at_ > begin;
  }

  bool counts(int& min, int& max) {
    const std::size_t begin = at_;
    if (!accept(U"{")) return false;
    const bool has_min = number(min);
    max = min;
    bool has_max = false;
    const bool comma = accept(U",");
    if (comma) {
      has_max = number(max);
      if (!has_max) max = -1;
    }
    if (!accept(U"}") || (!has_min && !has_max)) {
      at_ = begin;
      throw NotLinear();  // a brace that stands for itself
    }
    if (max >= 0 && max < min) throw NotLinear();
    return true;
  }

  static Node instruction(Op op, std::uint32_t value = 0) {
    Node node;
    node.kind = Node::Kind::kInstruction;
    node.op = op;
    node.value = value;
    return node;
  }
  static Node group(Op op, Node body) {
    Node node;
    node.kind = Node::Kind::kGroup;
    node.op = op;
    node.children.push_back(std::move(body));
    return node;
  }
  Node set_node(CharacterSet set) {
    set.finish();
    sets_.push_back(std::move(set));
    Node node;
    node.kind = Node::Kind::kSet;
    node.value = static_cast<std::uint32_t>(sets_.size() - 1);
    return node;
  }

  Node atom() {
    const char32_t c = take();
    switch (c) {
      case U'(': return parenthesis();
      case U'[': return set_node(bracket());
      case U'.': return instruction(Op::kNotNewline);
      case U'^': return instruction(Op::kLineBegin);
      case U'$': return instruction(Op::kLineEnd);
      case U'\\': return escape();
      case U'*':
      case U'+':
      case U'?':
      case U'{': throw NotLinear();
      default: return literal(c);
    }
  }

  Node parenthesis() {
    const bool outer_case = ignore_case_;
    Op op = Op::kAny;  // no group of its own
    if (accept(U"?")) {
      if (accept(U":")) {
      } else if (accept(U"=")) {
        op = Op::kAhead;
      } else if (accept(U"!")) {
        op = Op::kNotAhead;
      } else if (accept(U">")) {
        op = Op::kAtomic;
      } else if (accept(U"i:")) {
        ignore_case_ = true;
      } else {
        throw NotLinear();
      }
    }
    Node body = choice();
    if (!accept(U")")) throw NotLinear();
    ignore_case_ = outer_case;
    previous_letter_ = 0;
    return op == Op::kAny ? body : group(op, std::move(body));
  }

  Node literal(char32_t c) {
    if (!ignore_case_) return instruction(Op::kCharacter, c);
    if (c >= 0x80) throw NotLinear();

    // Two letters that fold to one character (st, ss, ff, fi, fl) would need more than sets.
    const char32_t lower = c >= U'A' && c <= U'Z' ? c + 32 : c;
    const bool ligature =
        (previous_letter_ == U's' && (lower == U's' || lower == U't')) ||
        (previous_letter_ == U'f' && (lower == U'f' || lower == U'i' || lower == U'l'));
    if (ligature) throw NotLinear();
    previous_letter_ = lower;

    CharacterSet set;
    add_folded(set, c);
    return set_node(std::move(set));
  }

  /// An ASCII character and what Oniguruma takes for the same without regard to case.
  static void add_folded(CharacterSet& set, char32_t c) {
    const char32_t lower = c >= U'A' && c <= U'Z' ? c + 32 : c;
    set.add(lower);
    if (lower < U'a' || lower > U'z') return;
    set.add(lower - 32);
    if (lower == U's') set.add(0x17F);
    if (lower == U'k') set.add(0x212A);
  }

  Node escape() {
    const char32_t c = take();
    switch (c) {
      case U'A': return instruction(Op::kTextBegin);
      case U'z': return instruction(Op::kTextEnd);
      case U'Z': return instruction(Op::kTextEndOrNewline);
      case U'b': return instruction(Op::kWordBoundary);
      case U'B': return instruction(Op::kNoWordBoundary);
      default: break;
    }
    --at_;
    CharacterSet set;
    const std::optional<char32_t> single = escape_in_set(set, unicode::kPatternWord);
    if (single) return literal(*single);
    if (ignore_case_) throw NotLinear();
    return set_node(std::move(set));
  }

  /// What stands behind a backslash: one character, or a class that is added to `set`. `word`: what
  /// \w means here.
  std::optional<char32_t> escape_in_set(CharacterSet& set, unsigned word) {
    const char32_t c = take();
    switch (c) {
      case U's': set.add_class(unicode::kWhitespace); return std::nullopt;
      case U'S': set.add_class(unicode::kWhitespace, true); return std::nullopt;
      case U'w': set.add_class(word); return std::nullopt;
      case U'W': set.add_class(word, true); return std::nullopt;
      case U'd': set.add_categories(bit(unicode::Category::kNd)); return std::nullopt;
      case U'D': set.add_categories(bit(unicode::Category::kNd), true); return std::nullopt;
      case U'p': property(set, false); return std::nullopt;
      case U'P': property(set, true); return std::nullopt;
      case U'n': return U'\n';
      case U'r': return U'\r';
      case U't': return U'\t';
      case U'f': return U'\f';
      case U'v': return U'\v';
      case U'x': return hexadecimal(2);
      case U'u': return hexadecimal(4);
      default: break;
    }
    const bool letter_or_digit =
        (c >= U'0' && c <= U'9') || (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z');
    if (letter_or_digit || c >= 0x80) throw NotLinear();
    return c;
  }

  static std::uint32_t bit(unicode::Category category) {
    return 1U << static_cast<unsigned>(category);
  }

  char32_t hexadecimal(int digits) {
    const bool braces = digits == 2 && accept(U"{");
    char32_t value = 0;
    for (int i = 0; braces ? !accept(U"}") : i < digits; ++i) {
      const char32_t c = take();
      const char32_t lower = c | 0x20;
      const bool decimal = c >= U'0' && c <= U'9';
      if (!decimal && !(lower >= U'a' && lower <= U'f')) throw NotLinear();
      value = value * 16 + (decimal ? c - U'0' : lower - U'a' + 10);
      if (value > 0x10FFFF) throw NotLinear();
    }
    return value;
  }

  void property(CharacterSet& set, bool others) {
    if (!accept(U"{")) throw NotLinear();
    if (accept(U"^")) others = !others;
    std::string name;
    while (!accept(U"}")) {
      const char32_t c = take();
      if (c >= 0x80) throw NotLinear();
      name.push_back(static_cast<char>(c));
    }
    if (name == "Han") {
      CharacterSet han;
      add_han(han);
      if (others) han.negate();
      set.add(std::move(han));
      return;
    }

    const std::uint32_t categories = categories_named(name);
    if (categories == 0) throw NotLinear();
    set.add_categories(categories, others);
  }

  /// Categories by their short names ("Lu", "L") and the long ones of their groups; 0 for other
  /// properties.
  static std::uint32_t categories_named(std::string name) {
    static constexpr std::pair<std::string_view, char> kGroups[] = {
        {"Letter", 'L'}, {"Mark", 'M'},   {"Number", 'N'},    {"Punctuation", 'P'},
        {"Punct", 'P'},  {"Symbol", 'S'}, {"Separator", 'Z'}, {"Other", 'C'}};
    for (const auto& [group, letter] : kGroups)
      if (name == group) name = letter;

    std::uint32_t categories = 0;
    for (std::size_t i = 0; i < std::size(unicode::kCategoryNames); ++i)
      if (unicode::kCategoryNames[i] == name ||
          (name.size() == 1 && unicode::kCategoryNames[i][0] == name[0]))
        categories |= 1U << i;
    return categories;
  }

  static void add_han(CharacterSet& set) {
    static constexpr std::pair<char32_t, char32_t> kRanges[] = {
        {0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},
        {0x3007, 0x3007},   {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},
        {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},   {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3},
        {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739}, {0x2B740, 0x2B81D},
        {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D},
        {0x30000, 0x3134A}, {0x31350, 0x323AF}};
    for (const auto& [first, last] : kRanges) set.add(first, last);
  }

  /// Behind "[".
  CharacterSet bracket() {
    if (++depth_ > kMaxDepth) throw NotLinear();
    const bool negated = accept(U"^");
    if (p_.substr(at_).starts_with(U"]")) throw NotLinear();

    std::vector<CharacterSet> parts(1);  // of which a character has to be in each
    while (!accept(U"]")) {
      if (accept(U"&&"))
        parts.emplace_back();
      else if (accept(U"[:"))
        posix_class(parts.back());
      else if (accept(U"["))
        parts.back().add(bracket());
      else
        member(parts.back());
    }
    CharacterSet set = parts.size() == 1 ? std::move(parts[0]) : intersection(std::move(parts));
    if (negated) set.negate();
    --depth_;
    return ignore_case_ ? folded(set) : set;
  }

  /// What is in none of the complements.
  static CharacterSet intersection(std::vector<CharacterSet> parts) {
    CharacterSet set;
    for (CharacterSet& part : parts) {
      part.negate();
      set.add(std::move(part));
    }
    set.negate();
    return set;
  }

  /// Behind "[:".
  void posix_class(CharacterSet& set) {
    using unicode::Category;
    const std::uint32_t invisible = bit(Category::kCc) | bit(Category::kCn);
    if (accept(U"space:]"))
      set.add_class(unicode::kWhitespace);
    else if (accept(U"word:]"))
      set.add_class(unicode::kSetWord);
    else if (accept(U"digit:]"))
      set.add_categories(bit(Category::kNd));
    else if (accept(U"cntrl:]"))
      set.add_categories(bit(Category::kCc));
    else if (accept(U"punct:]"))
      set.add_categories(categories_named("P") | categories_named("S"));
    else if (accept(U"graph:]"))
      set.add_categories(categories_named("Z") | invisible, true);
    else if (accept(U"print:]"))
      set.add_categories(bit(Category::kZl) | bit(Category::kZp) | invisible, true);
    else
      throw NotLinear();
  }

  void member(CharacterSet& set) {
    const std::optional<char32_t> first = member_character(set);
    if (!first || !accept(U"-")) {
      if (first) set.add(*first);
      return;
    }
    if (!done() && p_[at_] == U']') {
      set.add(*first);
      set.add(U'-');
      return;
    }
    CharacterSet none;
    if (p_.substr(at_).starts_with(U"[")) throw NotLinear();
    const std::optional<char32_t> last = member_character(none);
    if (!last || *last < *first) throw NotLinear();
    set.add(*first, *last);
  }

  std::optional<char32_t> member_character(CharacterSet& set) {
    const char32_t c = take();
    return c == U'\\' ? escape_in_set(set, unicode::kSetWord) : std::optional(c);
  }

  static CharacterSet folded(const CharacterSet& set) {
    const auto* ranges = set.plain_ranges();
    if (!ranges) throw NotLinear();
    CharacterSet both;
    for (const auto& [first, last] : *ranges) {
      if (last >= 0x80) throw NotLinear();
      for (char32_t c = first; c <= last; ++c) add_folded(both, c);
    }
    return both;
  }

  std::u32string_view p_;
  std::vector<CharacterSet>& sets_;
  std::size_t at_ = 0;
  int depth_ = 0;
  bool ignore_case_ = false;
  char32_t previous_letter_ = 0;  ///< in front of a letter whose case is ignored
};

}  // namespace

PatternNode parse_pattern(std::u32string_view pattern, std::vector<CharacterSet>& sets) {
  return Parser(pattern, sets).parse();
}

}  // namespace quell
