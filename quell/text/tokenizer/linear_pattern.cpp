#include "quell/text/tokenizer/linear_pattern.h"

#include "quell/text/tokenizer/steps.h"

namespace quell {
namespace {

using Op = LinearPattern::Op;
using Instruction = LinearPattern::Instruction;

bool is_word(char32_t c) { return unicode::is(c, unicode::kPatternWord); }

/// One search through one text. A state is an instruction at a place of the text. What follows from
/// it depends on nothing else, so a state that failed once fails always, and one inside a
/// look-ahead or atomic group that succeeded ends always at the same place.
class Search {
 public:
  Search(const LinearPattern::Program& program, std::u32string_view text,
         std::vector<std::uint64_t>& failed, std::vector<std::uint32_t>& inner)
      : program_(program), text_(text), places_(text.size() + 1), failed_(failed), inner_(inner) {
    failed_.assign((program.main_rows * places_ + 63) / 64, 0);
    inner_.assign(program.inner_rows * places_, kUnknown);
  }
  ~Search() { pattern_steps() += steps_; }
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  /// End of the match at `begin`.
  std::optional<std::size_t> match(std::size_t begin) { return run(0, begin, false); }

 private:
  static constexpr std::uint32_t kUnknown = 0, kFailed = 1,
                                 kEnd = 2;  ///< kEnd + e: succeeded up to e

  struct Alternative {
    std::uint32_t pc;
    std::size_t at, path;
  };
  struct State {
    std::size_t row, at;
  };

  std::optional<std::size_t> run(std::uint32_t pc, std::size_t at, bool inside) {
    const std::size_t first_alternative = alternatives_.size();
    const std::size_t first_state = path_.size();

    while (true) {
      ++steps_;
      const Instruction& now = program_.code[pc];
      bool good = true;
      std::optional<std::size_t> end;

      if (now.op == Op::kAccept)
        end = at;
      else if (now.memo >= 0)
        good = enter(now, at, inside, pc, end);
      else
        good = step(now, at, pc);

      if (end) {
        succeed(first_state, *end, inside);
        alternatives_.resize(first_alternative);
        path_.resize(first_state);
        return end;
      }
      if (good) continue;

      if (alternatives_.size() == first_alternative) {
        path_.resize(first_state);
        return std::nullopt;
      }
      const Alternative next = alternatives_.back();
      alternatives_.pop_back();
      path_.resize(next.path);
      pc = next.pc;
      at = next.at;
    }
  }

  /// A state that is remembered. `end` is set where it is known to have succeeded.
  bool enter(const Instruction& now, std::size_t& at, bool inside, std::uint32_t& pc,
             std::optional<std::size_t>& end) {
    const std::size_t cell = static_cast<std::size_t>(now.memo) * places_ + at;
    if (inside) {
      if (inner_[cell] >= kEnd) end = inner_[cell] - kEnd;
      if (inner_[cell] != kUnknown) return end.has_value();
      inner_[cell] = kFailed;  // until it turns out otherwise
    } else {
      std::uint64_t& word = failed_[cell / 64];
      const std::uint64_t bit = std::uint64_t{1} << cell % 64;
      if ((word & bit) != 0) return false;
      word |= bit;
    }
    path_.push_back({static_cast<std::size_t>(now.memo), at});

    if (now.op == Op::kSplit) {
      alternatives_.push_back({now.b, at, path_.size()});
      pc = now.a;
      return true;
    }

    const std::optional<std::size_t> found = run(now.a, at, true);
    if (found.has_value() == (now.op == Op::kNotAhead)) return false;
    if (now.op == Op::kAtomic) at = *found;
    pc = now.b;
    return true;
  }

  bool step(const Instruction& now, std::size_t& at, std::uint32_t& pc) const {
    const std::size_t n = text_.size();
    if (now.op == Op::kJump) {
      pc = now.a;
      return true;
    }
    ++pc;
    switch (now.op) {
      case Op::kCharacter: return at < n && text_[at++] == now.a;
      case Op::kSet: return at < n && program_.sets[now.a].contains(text_[at++]);
      case Op::kNotNewline: return at < n && text_[at++] != U'\n';
      case Op::kAny: return at++ < n;
      case Op::kLineBegin: return at == 0 || (at < n && text_[at - 1] == U'\n');
      case Op::kLineEnd: return at == n || text_[at] == U'\n';
      case Op::kTextBegin: return at == 0;
      case Op::kTextEnd: return at == n;
      case Op::kTextEndOrNewline: return at == n || (at + 1 == n && text_[at] == U'\n');
      case Op::kWordBoundary: return at_word_boundary(at);
      case Op::kNoWordBoundary: return !at_word_boundary(at);
      default: return false;
    }
  }

  bool at_word_boundary(std::size_t at) const {
    const bool before = at > 0 && is_word(text_[at - 1]);
    const bool after = at < text_.size() && is_word(text_[at]);
    return before != after;
  }

  /// The states on the way did not fail after all.
  void succeed(std::size_t first_state, std::size_t end, bool inside) {
    for (std::size_t i = first_state; i < path_.size(); ++i) {
      const std::size_t cell = path_[i].row * places_ + path_[i].at;
      if (inside)
        inner_[cell] = kEnd + static_cast<std::uint32_t>(end);
      else
        failed_[cell / 64] &= ~(std::uint64_t{1} << cell % 64);
    }
  }

  const LinearPattern::Program& program_;
  std::u32string_view text_;
  std::size_t places_;
  std::vector<std::uint64_t>& failed_;  ///< a bit for each state of the main program
  std::vector<std::uint32_t>& inner_;   ///< for each state inside look-aheads and atomic groups
  std::vector<Alternative> alternatives_;
  std::vector<State> path_;  ///< remembered states between the begin of the search and here
  std::uint64_t steps_ = 0;
};

}  // namespace

void LinearPattern::for_each_match(std::u32string_view text,
                                   const std::function<void(CharRange)>& f) const {
  thread_local std::vector<std::uint64_t> failed;
  thread_local std::vector<std::uint32_t> inner;
  Search search(program_, text, failed, inner);

  std::optional<std::size_t> last_end;
  for (std::size_t at = 0; at <= text.size();) {
    const std::optional<std::size_t> end = search.match(at);
    // An empty match directly behind another one does not count.
    const bool counts = end && !(*end == at && last_end == at);
    if (counts) {
      f({at, *end});
      last_end = *end;
    }
    at = counts && *end > at ? *end : at + 1;
  }
}

}  // namespace quell
