// A text on its way through the stages of a tokenizer: what it has become, and (where wanted) which
// characters of the original each of its characters came from. Alignments follow
// huggingface/tokenizers, so that offsets come out equal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quell/text/tokenizer/unicode.h"

namespace quell {

/// Characters [begin, end) of the original text.
struct CharSpan {
  std::int32_t begin = 0, end = 0;
  bool operator==(const CharSpan&) const = default;
};

/// Characters [begin, end) of a text or a piece.
struct CharRange {
  std::size_t begin = 0, end = 0;
  std::size_t size() const { return end - begin; }
};

class AlignedText {
 public:
  AlignedText() = default;
  /// Characters `first`, `first` + 1, ... of the original.
  AlignedText(std::u32string_view text, std::size_t first, bool track);

  std::u32string_view text() const { return text_; }
  std::u32string_view text(CharRange r) const {
    return std::u32string_view(text_).substr(r.begin, r.size());
  }
  std::size_t size() const { return text_.size(); }
  bool empty() const { return text_.empty(); }
  /// Where the characters [begin, end) came from; an empty range is empty at its place. {0, 0} when
  /// not tracked.
  CharSpan span(CharRange r) const;
  /// First character of the original that belongs to the text at `at`.
  std::size_t original_begin(std::size_t at) const;
  AlignedText slice(CharRange r) const;

  /// Replaces the text by `changes`.
  void transform(const std::vector<unicode::Change>& changes);
  template <typename Keep>
  void filter(Keep keep) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < text_.size(); ++i)
      if (keep(text_[i])) move_within(i, n++);
    resize(n);
  }
  /// Replaces characters one to one.
  template <typename F>
  void map(F f) {
    for (char32_t& c : text_) c = f(c);
  }

  class Builder;

 private:
  void move_within(std::size_t from, std::size_t to) {
    text_[to] = text_[from];
    if (track_) origins_[to] = origins_[from];
  }
  void resize(std::size_t n) {
    text_.resize(n);
    if (track_) origins_.resize(n);
  }

  std::u32string text_;
  std::vector<CharSpan> origins_;  ///< one a character; empty when not tracked
  std::int32_t base_ = 0;
  bool track_ = false;
};

/// Builds a new text from this one: `copy` keeps a character with its origin, `put` gives a new one
/// the origin of character `like`.
class AlignedText::Builder {
 public:
  explicit Builder(const AlignedText& from) : from_(from) {
    out_.track_ = from.track_;
    out_.base_ = from.base_;
    out_.text_.reserve(from.size() + 16);
    if (from.track_) out_.origins_.reserve(from.size() + 16);
  }
  void copy(CharRange r) {
    out_.text_.append(from_.text_, r.begin, r.size());
    if (from_.track_)
      out_.origins_.insert(out_.origins_.end(),
                           from_.origins_.begin() + static_cast<std::ptrdiff_t>(r.begin),
                           from_.origins_.begin() + static_cast<std::ptrdiff_t>(r.end));
  }
  void put(char32_t c, std::size_t like) {
    out_.text_.push_back(c);
    if (from_.track_) out_.origins_.push_back(from_.origins_[like]);
  }
  /// A new character without origin, in front of everything.
  void put_first(char32_t c) {
    out_.text_.push_back(c);
    if (from_.track_) out_.origins_.push_back({from_.base_, from_.base_});
  }
  std::size_t size() const { return out_.text_.size(); }
  AlignedText take() { return std::move(out_); }

 private:
  const AlignedText& from_;
  AlignedText out_;
};

/// A text cut into pieces, ascending and apart; what lies between them is dropped.
struct Pieces {
  AlignedText text;
  std::vector<CharRange> ranges;
};

}  // namespace quell
