// Pre-tokenizers of tokenizer.json (behaviour of huggingface/tokenizers).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/byte_alphabet.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/pattern_scanners.h"
#include "quell/text/tokenizer/python_stages.h"
#include "quell/text/tokenizer/regex.h"

namespace quell {
namespace {

using unicode::is;

/// What becomes of a match (a delimiter) and of the text between matches.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior read_behavior(const Settings& json, const char* fallback) {
  const std::string name = json_string(json, "behavior", fallback);
  static constexpr std::pair<const char*, Behavior> kNames[] = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous}};
  for (const auto& [known, behavior] : kNames)
    if (name == known) return behavior;
  refuse_component("split behavior", name);
}

struct Match {
  CharRange range;
  bool is_match;
};

/// A piece covered by matches and gaps, in order.
using Matches = std::vector<Match>;

void append_merged_with_next(const Matches& matches, std::vector<CharRange>& out) {
  const std::size_t first = out.size();
  bool previous_match = false;
  for (auto m = matches.rbegin(); m != matches.rend(); ++m) {
    if (m->is_match && !previous_match && out.size() > first)
      out.back().begin = m->range.begin;
    else
      out.push_back(m->range);
    previous_match = m->is_match;
  }
  std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
}

void append_split(const Matches& matches, Behavior behavior, std::vector<CharRange>& out) {
  if (behavior == Behavior::kMergedWithNext) return append_merged_with_next(matches, out);
  const std::size_t first = out.size();
  bool previous_match = false;
  for (const Match& m : matches) {
    const bool merge = behavior == Behavior::kMergedWithPrevious ? m.is_match && !previous_match
                       : behavior == Behavior::kContiguous       ? m.is_match == previous_match
                                                                 : false;
    previous_match = m.is_match;
    if (behavior == Behavior::kRemoved && m.is_match) continue;
    if (merge && out.size() > first)
      out.back().end = m.range.end;
    else
      out.push_back(m.range);
  }
}

/// Splits every piece by what `find(text of the piece, on_match)` reports; empty pieces vanish.
template <typename Find>
void split_pieces(Pieces& pieces, Behavior behavior, bool invert, Find find) {
  std::vector<CharRange> out;
  out.reserve(pieces.ranges.size() * 2);
  Matches matches;
  for (const CharRange& piece : pieces.ranges) {
    matches.clear();
    std::size_t done = piece.begin;
    const auto on_match = [&](CharRange r) {
      r = {r.begin + piece.begin, r.end + piece.begin};
      if (r.begin > done) matches.push_back({{done, r.begin}, invert});
      matches.push_back({r, !invert});
      done = r.end;
    };
    find(pieces.text.text(piece), on_match);
    if (done < piece.end) matches.push_back({{done, piece.end}, invert});
    append_split(matches, behavior, out);
  }
  std::erase_if(out, [](const CharRange& r) { return r.size() == 0; });
  pieces.ranges = std::move(out);
}

/// Every character that `matches` accepts is a match of its own.
template <typename Accept>
void split_characters(Pieces& pieces, Behavior behavior, Accept accept) {
  split_pieces(pieces, behavior, false, [&](std::u32string_view text, const auto& on_match) {
    for (std::size_t i = 0; i < text.size(); ++i)
      if (accept(text[i])) on_match(CharRange{i, i + 1});
  });
}

/// `content` in front of the pieces that `wanted(piece)` chooses; it belongs to their first
/// character.
template <typename Wanted>
void prepend_to(Pieces& pieces, char32_t content, Wanted wanted) {
  if (std::none_of(pieces.ranges.begin(), pieces.ranges.end(), wanted)) return;
  AlignedText::Builder builder(pieces.text);
  for (CharRange& r : pieces.ranges) {
    const std::size_t begin = builder.size();
    if (wanted(r)) builder.put(content, r.begin);
    builder.copy(r);
    r = {begin, builder.size()};
  }
  pieces.text = builder.take();
}

class BertPreTokenizer final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    std::vector<CharRange> out;
    out.reserve(pieces.text.size() / 4 + 4);
    const std::u32string_view text = pieces.text.text();
    for (const CharRange& piece : pieces.ranges) {
      std::size_t begin = piece.begin;
      for (std::size_t i = piece.begin; i < piece.end; ++i) {
        const unsigned classes =
            unicode::classes(text[i]) & (unicode::kWhitespace | unicode::kPunctuation);
        if (!classes) continue;
        if (begin < i) out.push_back({begin, i});
        if (!(classes & unicode::kWhitespace)) out.push_back({i, i + 1});
        begin = i + 1;
      }
      if (begin < piece.end) out.push_back({begin, piece.end});
    }
    pieces.ranges = std::move(out);
  }
};

void scan(Pieces& pieces, MatchEnd match_end) {
  std::vector<CharRange> out;
  out.reserve(pieces.text.size() / 3 + 4);
  for (const CharRange& piece : pieces.ranges) {
    const std::u32string_view text = pieces.text.text(piece);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = match_end(text, at);
      out.push_back({piece.begin + at, piece.begin + end});
      at = end;
    }
  }
  pieces.ranges = std::move(out);
}

class ByteLevelPreTokenizer final : public PreTokenizer {
 public:
  explicit ByteLevelPreTokenizer(const Settings& json)
      : add_prefix_space_(json_bool(json, "add_prefix_space", true)),
        use_regex_(json_bool(json, "use_regex", true)) {}
  void apply(Pieces& pieces) const override {
    if (add_prefix_space_)
      prepend_to(pieces, U' ',
                 [&](const CharRange& r) { return pieces.text.text()[r.begin] != U' '; });
    if (use_regex_) scan(pieces, gpt2_scanner());
    to_byte_level(pieces);
  }

 private:
  bool add_prefix_space_, use_regex_;
};

class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(const Settings& json)
      : replacement_(read_character(json, "replacement", U'\u2581')),
        scheme_(json_string(json, "prepend_scheme",
                            json_bool(json, "add_prefix_space", true) ? "always" : "never")),
        split_(json_bool(json, "split", true)) {
    if (scheme_ != "always" && scheme_ != "never" && scheme_ != "first")
      refuse_component("prepend_scheme", scheme_);
  }
  void apply(Pieces& pieces) const override {
    pieces.text.map([&](char32_t c) { return c == U' ' ? replacement_ : c; });
    if (scheme_ != "never")
      prepend_to(pieces, replacement_, [&](const CharRange& r) {
        return pieces.text.text()[r.begin] != replacement_ &&
               (scheme_ == "always" || at_begin(pieces, r));
      });
    if (!split_) return;
    split_characters(pieces, Behavior::kMergedWithNext,
                     [&](char32_t c) { return c == replacement_; });
  }
  bool needs_origins() const override { return scheme_ == "first"; }

 private:
  /// The piece opens the whole input; text behind an added token does not.
  static bool at_begin(const Pieces& pieces, const CharRange& r) {
    return pieces.text.original_begin(r.begin) == 0;
  }

  char32_t replacement_;
  std::string scheme_;
  bool split_;
};

class SplitPreTokenizer final : public PreTokenizer {
 public:
  explicit SplitPreTokenizer(const Settings& json)
      : pattern_(read_pattern(json.value("pattern"))),
        behavior_(read_behavior(json, "Removed")),
        invert_(json_bool(json, "invert", false)),
        scanner_(behavior_ == Behavior::kIsolated && !invert_
                     ? find_scanner(json_string(json.value("pattern"), "Regex", ""))
                     : nullptr) {}
  void apply(Pieces& pieces) const override {
    if (scanner_) return scan(pieces, scanner_);
    split_pieces(pieces, behavior_, invert_, [&](std::u32string_view text, const auto& on_match) {
      pattern_.for_each_match(text, on_match);
    });
  }

 private:
  Regex pattern_;
  Behavior behavior_;
  bool invert_;
  MatchEnd scanner_;  ///< null: by the pattern
};

/// Runs of word characters, and runs of what is neither word nor space.
class Whitespace final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    const auto kind_of = [](char32_t c) {
      return is(c, unicode::kWord) ? 1 : is(c, unicode::kWhitespace) ? 0 : 2;
    };
    split_pieces(pieces, Behavior::kRemoved, true,
                 [&](std::u32string_view text, const auto& on_match) {
                   for (std::size_t i = 0; i < text.size();) {
                     const int kind = kind_of(text[i]);
                     std::size_t end = i + 1;
                     while (end < text.size() && kind_of(text[end]) == kind) ++end;
                     if (kind != 0) on_match(CharRange{i, end});
                     i = end;
                   }
                 });
  }
};

class WhitespaceSplit final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    split_characters(pieces, Behavior::kRemoved,
                     [](char32_t c) { return is(c, unicode::kWhitespace); });
  }
};

class Punctuation final : public PreTokenizer {
 public:
  explicit Punctuation(const Settings& json) : behavior_(read_behavior(json, "Isolated")) {}
  void apply(Pieces& pieces) const override {
    split_characters(pieces, behavior_, [](char32_t c) { return is(c, unicode::kPunctuation); });
  }

 private:
  Behavior behavior_;
};

class Digits final : public PreTokenizer {
 public:
  explicit Digits(const Settings& json)
      : behavior_(json_bool(json, "individual_digits", false) ? Behavior::kIsolated
                                                              : Behavior::kContiguous) {}
  void apply(Pieces& pieces) const override {
    split_characters(pieces, behavior_, [](char32_t c) { return is(c, unicode::kNumeric); });
  }

 private:
  Behavior behavior_;
};

class CharDelimiterSplit final : public PreTokenizer {
 public:
  explicit CharDelimiterSplit(const Settings& json)
      : delimiter_(read_character(json, "delimiter", 0)) {}
  void apply(Pieces& pieces) const override {
    split_characters(pieces, Behavior::kRemoved, [&](char32_t c) { return c == delimiter_; });
  }

 private:
  char32_t delimiter_;
};

/// A new piece wherever the script changes; spaces and characters without script go with what is
/// before them, leading ones are dropped.
class UnicodeScripts final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    std::vector<CharRange> out;
    for (const CharRange& piece : pieces.ranges) {
      int last = -1;
      for (std::size_t i = piece.begin; i < piece.end; ++i) {
        const char32_t c = pieces.text.text()[i];
        const int found = unicode::script_of(c);
        const int script = found < 0 ? last : found;
        if (script != last) out.push_back({i, i});
        if (script != -1) out.back().end = i + 1;
        last = script;
      }
    }
    pieces.ranges = std::move(out);
  }
};

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(const Settings& json)
      : length_(static_cast<std::size_t>(json_int(json, "length", 1, 1 << 30, 5))) {}
  void apply(Pieces& pieces) const override {
    std::vector<CharRange> out;
    for (const CharRange& piece : pieces.ranges)
      for (std::size_t at = piece.begin; at < piece.end; at += length_)
        out.push_back({at, std::min(at + length_, piece.end)});
    pieces.ranges = std::move(out);
  }

 private:
  std::size_t length_;
};

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(const Settings& json) {
    require(json.has("pretokenizers"), ErrorCode::kInvalidInput,
            "tokenizer: pre_tokenizer Sequence without \"pretokenizers\"");
    for (const Settings& stage : json.sections("pretokenizers"))
      stages_.push_back(make_pre_tokenizer(stage));
  }
  void apply(Pieces& pieces) const override {
    for (const auto& stage : stages_) stage->apply(pieces);
  }
  bool needs_origins() const override {
    return std::any_of(stages_.begin(), stages_.end(),
                       [](const auto& stage) { return stage->needs_origins(); });
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> stages_;
};

template <typename T>
std::unique_ptr<PreTokenizer> from_json(const Settings& json) {
  if constexpr (std::is_constructible_v<T, const Settings&>)
    return std::make_unique<T>(json);
  else
    return std::make_unique<T>();
}

constexpr ComponentEntry<PreTokenizer> kPreTokenizers[] = {
    {"BertPreTokenizer", from_json<BertPreTokenizer>},
    {"ByteLevel", from_json<ByteLevelPreTokenizer>},
    {"Metaspace", from_json<Metaspace>},
    {"Split", from_json<SplitPreTokenizer>},
    {"Whitespace", from_json<Whitespace>},
    {"WhitespaceSplit", from_json<WhitespaceSplit>},
    {"Punctuation", from_json<Punctuation>},
    {"Digits", from_json<Digits>},
    {"CharDelimiterSplit", from_json<CharDelimiterSplit>},
    {"UnicodeScripts", from_json<UnicodeScripts>},
    {"FixedLength", from_json<FixedLength>},
    {"Sequence", from_json<PreTokenizerSequence>}};

}  // namespace

std::vector<std::string> pre_tokenizer_types() { return types_of(kPreTokenizers); }

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Settings& json) {
  if (auto stage = make_python_pre_tokenizer(json)) return stage;
  return make_from(kPreTokenizers, "pre_tokenizer", json);
}

}  // namespace quell
