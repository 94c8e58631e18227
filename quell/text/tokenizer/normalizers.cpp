// Normalizers of tokenizer.json (behaviour of huggingface/tokenizers).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/byte_alphabet.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/python_stages.h"
#include "quell/text/tokenizer/regex.h"

namespace quell {
namespace {

using unicode::Change;
using unicode::is;

bool all_below(std::u32string_view text, char32_t limit) {
  return std::all_of(text.begin(), text.end(), [=](char32_t c) { return c < limit; });
}

void apply_form(AlignedText& text, unicode::Form form) {
  const char32_t unchanged_below = form == unicode::Form::kNfc   ? 0x300
                                   : form == unicode::Form::kNfd ? 0xC0
                                                                 : 0xA0;
  if (!all_below(text.text(), unchanged_below))
    text.transform(unicode::normalize(text.text(), form));
}

void lowercase(AlignedText& text) {
  if (all_below(text.text(), 0x80)) {
    text.map([](char32_t c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    return;
  }
  AlignedText::Builder builder(text);
  std::u32string lower;
  for (std::size_t i = 0; i < text.size(); ++i) {
    lower.clear();
    unicode::append_lowercase(lower, text.text()[i]);
    for (const char32_t c : lower) builder.put(c, i);
  }
  text = builder.take();
}

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(const Settings& json)
      : clean_text_(json_bool(json, "clean_text", true)),
        handle_chinese_chars_(json_bool(json, "handle_chinese_chars", true)),
        lowercase_(json_bool(json, "lowercase", true)),
        strip_accents_(json_bool(json, "strip_accents", lowercase_)) {}

  void apply(AlignedText& text) const override {
    if (clean_text_) clean(text);
    if (handle_chinese_chars_) separate_chinese(text);
    if (strip_accents_) {
      apply_form(text, unicode::Form::kNfd);
      if (!all_below(text.text(), 0x300))
        text.filter([](char32_t c) { return !is(c, unicode::kNonspacingMark); });
    }
    if (lowercase_) lowercase(text);
  }

 private:
  static void clean(AlignedText& text) {
    const auto kept_space = [](char32_t c) { return c == U'\t' || c == U'\n' || c == U'\r'; };
    text.filter([&](char32_t c) {
      return kept_space(c) || (c != 0 && c != 0xFFFD && !is(c, unicode::kOther));
    });
    text.map([&](char32_t c) { return kept_space(c) || is(c, unicode::kWhitespace) ? U' ' : c; });
  }
  static void separate_chinese(AlignedText& text) {
    const std::u32string_view t = text.text();
    if (std::none_of(t.begin(), t.end(), [](char32_t c) { return is(c, unicode::kCjk); })) return;
    AlignedText::Builder builder(text);
    for (std::size_t i = 0; i < t.size(); ++i) {
      const bool cjk = is(t[i], unicode::kCjk);
      if (cjk) builder.put(U' ', i);
      builder.put(t[i], i);
      if (cjk) builder.put(U' ', i);
    }
    text = builder.take();
  }

  bool clean_text_, handle_chinese_chars_, lowercase_, strip_accents_;
};

class UnicodeForm final : public Normalizer {
 public:
  explicit UnicodeForm(unicode::Form form) : form_(form) {}
  void apply(AlignedText& text) const override { apply_form(text, form_); }

 private:
  unicode::Form form_;
};

class Lowercase final : public Normalizer {
 public:
  void apply(AlignedText& text) const override { lowercase(text); }
};

class StripAccents final : public Normalizer {
 public:
  void apply(AlignedText& text) const override {
    text.filter([](char32_t c) { return !is(c, unicode::kMark); });
  }
};

class StripNormalizer final : public Normalizer {
 public:
  explicit StripNormalizer(const Settings& json)
      : left_(json_bool(json, "strip_left", true)), right_(json_bool(json, "strip_right", true)) {}
  void apply(AlignedText& text) const override {
    const std::u32string_view t = text.text();
    CharRange kept{0, t.size()};
    while (left_ && kept.begin < kept.end && is(t[kept.begin], unicode::kWhitespace)) ++kept.begin;
    while (right_ && kept.begin < kept.end && is(t[kept.end - 1], unicode::kWhitespace)) --kept.end;
    if (kept.size() != t.size()) text = text.slice(kept);
  }

 private:
  bool left_, right_;
};

class Replace final : public Normalizer {
 public:
  explicit Replace(const Settings& json)
      : pattern_(read_pattern(json.value("pattern"))),
        content_(unicode::decode(json_string(json, "content", ""))) {
    const std::u32string literal =
        unicode::decode(json_string(json.value("pattern"), "String", ""));
    if (literal.size() == 1) single_ = literal[0];
    empty_pattern_ = !json.value("pattern").contains("Regex") && literal.empty();
  }
  void apply(AlignedText& text) const override {
    if (text.empty() || empty_pattern_) return;
    if (single_ && content_.size() == 1) {
      text.map([&](char32_t c) { return c == *single_ ? content_[0] : c; });
      return;
    }
    AlignedText::Builder builder(text);
    std::size_t done = 0;
    const auto replace = [&](CharRange match) {
      builder.copy({done, match.begin});
      for (const char32_t c : content_) {
        if (match.end > 0)
          builder.put(c, match.end - 1);
        else
          builder.put_first(c);
      }
      done = match.end;
    };
    if (single_) {
      for (std::size_t i = 0; i < text.size(); ++i)
        if (text.text()[i] == *single_) replace({i, i + 1});
    } else {
      pattern_.for_each_match(text.text(), replace);
    }
    if (done == 0 && builder.size() == 0) return;  // no match
    builder.copy({done, text.size()});
    text = builder.take();
  }

 private:
  Regex pattern_;
  std::u32string content_;
  std::optional<char32_t> single_;
  bool empty_pattern_ = false;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(const Settings& json)
      : content_(unicode::decode(json_string(json, "prepend", ""))) {}
  void apply(AlignedText& text) const override {
    if (text.empty()) return;
    AlignedText::Builder builder(text);
    for (const char32_t c : content_) builder.put(c, 0);
    builder.copy({0, text.size()});
    text = builder.take();
  }

 private:
  std::u32string content_;
};

/// SentencePiece's nmt rules: control characters out, odd spaces to " ".
class Nmt final : public Normalizer {
 public:
  void apply(AlignedText& text) const override {
    text.filter([](char32_t c) {
      return !((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
               c == 0x8F || c == 0x9F);
    });
    text.map([](char32_t c) {
      const bool space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                         (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                         c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      return space ? U' ' : c;
    });
  }
};

class ByteLevelNormalizer final : public Normalizer {
 public:
  void apply(AlignedText& text) const override { to_byte_level(text); }
};

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(const Settings& json) {
    require(json.has("normalizers"), ErrorCode::kInvalidInput,
            "tokenizer: normalizer Sequence without \"normalizers\"");
    for (const Settings& stage : json.sections("normalizers"))
      stages_.push_back(make_normalizer(stage));
  }
  void apply(AlignedText& text) const override {
    for (const auto& stage : stages_) stage->apply(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> stages_;
};

template <typename T>
std::unique_ptr<Normalizer> from_json(const Settings& json) {
  if constexpr (std::is_constructible_v<T, const Settings&>)
    return std::make_unique<T>(json);
  else
    return std::make_unique<T>();
}
template <unicode::Form kForm>
std::unique_ptr<Normalizer> make_form(const Settings&) {
  return std::make_unique<UnicodeForm>(kForm);
}

constexpr ComponentEntry<Normalizer> kNormalizers[] = {
    {"BertNormalizer", from_json<BertNormalizer>},
    {"NFC", make_form<unicode::Form::kNfc>},
    {"NFD", make_form<unicode::Form::kNfd>},
    {"NFKC", make_form<unicode::Form::kNfkc>},
    {"NFKD", make_form<unicode::Form::kNfkd>},
    {"Lowercase", from_json<Lowercase>},
    {"Strip", from_json<StripNormalizer>},
    {"StripAccents", from_json<StripAccents>},
    {"Replace", from_json<Replace>},
    {"Prepend", from_json<Prepend>},
    {"Nmt", from_json<Nmt>},
    {"Precompiled", make_precompiled},
    {"ByteLevel", from_json<ByteLevelNormalizer>},
    {"Sequence", from_json<NormalizerSequence>}};

}  // namespace

std::vector<std::string> normalizer_types() { return types_of(kNormalizers); }

std::unique_ptr<Normalizer> make_normalizer(const Settings& json) {
  if (auto stage = make_python_normalizer(json)) return stage;
  return make_from(kNormalizers, "normalizer", json);
}

}  // namespace quell
