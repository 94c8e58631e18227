#include "quell/text/tokenizer/python_stages.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "quell/text/python_text.h"

namespace quell {
namespace {

using unicode::Change;
using unicode::Form;
using unicode::kPythonVersion;

/// Bits of the general category, as ICU counts them.
std::uint32_t category_bits(char32_t c) {
  if (!unicode::known_in(c, kPythonVersion)) return U_GC_CN_MASK;
  return U_GET_GC_MASK(static_cast<UChar32>(c));
}

bool is_dropped(char32_t c) {
  if (c == U'\t' || c == U'\n' || c == U'\r') return false;
  return c == 0xFFFD || (category_bits(c) & U_GC_C_MASK) != 0;
}

bool is_punctuation(char32_t c) {
  const bool ascii = (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
                     (c >= 123 && c <= 126);
  return ascii || (category_bits(c) & U_GC_P_MASK) != 0;
}

class PythonBasic final : public Normalizer {
 public:
  explicit PythonBasic(const Settings& json) : lowercase_(json_bool(json, "lowercase", false)) {}

  void apply(AlignedText& text) const override {
    text.filter([](char32_t c) { return !is_dropped(c); });
    text.transform(unicode::normalize(text.text(), Form::kNfc, kPythonVersion));
    if (!lowercase_) return;

    lower(text);
    text.transform(unicode::normalize(text.text(), Form::kNfd, kPythonVersion));
    text.filter([](char32_t c) { return (category_bits(c) & U_GC_MN_MASK) == 0; });
  }

 private:
  static void lower(AlignedText& text) {
    constexpr char32_t kDottedCapitalI = 0x130;  // the only one whose lower case has two characters
    const std::u32string small = python::lower(text.text());
    AlignedText::Builder builder(text);
    for (std::size_t i = 0, at = 0; i < text.size(); ++i) {
      const std::size_t count = text.text()[i] == kDottedCapitalI ? 2 : 1;
      for (std::size_t n = 0; n < count; ++n) builder.put(small[at++], i);
    }
    text = builder.take();
  }

  bool lowercase_;
};

class PythonWords final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    std::vector<CharRange> out;
    const std::u32string_view text = pieces.text.text();
    for (const CharRange& piece : pieces.ranges) {
      std::size_t begin = piece.begin;
      const auto end_word = [&](std::size_t end) {
        if (begin < end) out.push_back({begin, end});
        begin = end + 1;
      };
      for (std::size_t i = piece.begin; i < piece.end; ++i) {
        const bool space = python::is_space(text[i]);
        if (!space && !is_punctuation(text[i])) continue;
        end_word(i);
        if (!space) out.push_back({i, i + 1});
      }
      end_word(piece.end);
    }
    pieces.ranges = std::move(out);
  }
};

class PieceNfkc final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    AlignedText::Builder builder(pieces.text);
    for (CharRange& r : pieces.ranges) {
      const std::size_t begin = builder.size();
      std::size_t source = r.begin;
      for (const Change& change :
           unicode::normalize(pieces.text.text(r), Form::kNfkc, kPythonVersion)) {
        const bool inserted = change.change > 0;
        builder.put(change.c, inserted && source > r.begin ? source - 1 : source);
        if (!inserted)
          source = std::min(source + 1 + static_cast<std::size_t>(-change.change), r.end - 1);
      }
      r = {begin, builder.size()};
    }
    pieces.text = builder.take();
  }
};

}  // namespace

std::unique_ptr<Normalizer> make_python_normalizer(const Settings& json) {
  if (json_string(json, "type", "") != kPythonNormalizer) return nullptr;
  return std::make_unique<PythonBasic>(json);
}

std::unique_ptr<PreTokenizer> make_python_pre_tokenizer(const Settings& json) {
  const std::string type = json_string(json, "type", "");
  if (type == kPythonWords) return std::make_unique<PythonWords>();
  if (type == kPythonPieceNfkc) return std::make_unique<PieceNfkc>();
  return nullptr;
}

}  // namespace quell
