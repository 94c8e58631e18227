#include "quell/text/tokenizer/aligned_text.h"

#include <algorithm>

namespace quell {

AlignedText::AlignedText(std::u32string_view text, std::size_t first, bool track)
    : text_(text), base_(static_cast<std::int32_t>(first)), track_(track) {
  if (!track) return;
  origins_.resize(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto at = static_cast<std::int32_t>(first + i);
    origins_[i] = {at, at + 1};
  }
}

CharSpan AlignedText::span(CharRange r) const {
  if (!track_) return {};
  if (r.begin < r.end) return {origins_[r.begin].begin, origins_[r.end - 1].end};
  const auto at = static_cast<std::int32_t>(original_begin(r.begin));
  return {at, at};
}

std::size_t AlignedText::original_begin(std::size_t at) const {
  if (!track_ || origins_.empty()) return static_cast<std::size_t>(base_);
  return static_cast<std::size_t>(at < origins_.size() ? origins_[at].begin : origins_.back().end);
}

AlignedText AlignedText::slice(CharRange r) const {
  AlignedText out;
  out.text_ = text_.substr(r.begin, r.size());
  out.track_ = track_;
  out.base_ = static_cast<std::int32_t>(original_begin(r.begin));
  if (track_)
    out.origins_.assign(origins_.begin() + static_cast<std::ptrdiff_t>(r.begin),
                        origins_.begin() + static_cast<std::ptrdiff_t>(r.end));
  return out;
}

void AlignedText::transform(const std::vector<unicode::Change>& changes) {
  std::u32string text(changes.size(), U'\0');
  std::vector<CharSpan> origins(track_ ? changes.size() : 0);
  std::size_t at = 0;  // the next character to be replaced
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const auto& [c, change] = changes[i];
    text[i] = c;
    if (!track_) continue;
    if (change > 0) {
      origins[i] = at > 0 ? origins_[std::min(at, origins_.size()) - 1] : CharSpan{base_, base_};
    } else {
      origins[i] = at < origins_.size() ? origins_[at] : span({origins_.size(), origins_.size()});
      at += 1 + static_cast<std::size_t>(-change);
    }
  }
  text_ = std::move(text);
  origins_ = std::move(origins);
}

}  // namespace quell
