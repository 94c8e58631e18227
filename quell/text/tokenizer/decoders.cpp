// Decoders of tokenizer.json (behaviour of huggingface/tokenizers).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/byte_alphabet.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/regex.h"

namespace quell {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  std::size_t at = text.find(from);
  if (at == std::string::npos) return;

  std::string out;
  out.reserve(text.size());
  std::size_t done = 0;
  for (; at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done);
    out += to;
    done = at + from.size();
  }
  out.append(text, done);
  text = std::move(out);
}

namespace {

/// English punctuation without the space in front of it.
void clean_up(std::string& token) {
  static constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  bool possible = false;  // every rule starts with a space and one of these
  for (std::size_t at = token.find(' '); at != std::string::npos && !possible;
       at = token.find(' ', at + 1))
    possible = at + 1 < token.size() &&
               std::string_view(".?!,'nd").find(token[at + 1]) != std::string_view::npos;
  if (!possible) return;
  for (const auto& [from, to] : kRules) replace_all(token, from, to);
}

class WordPieceDecoder final : public Decoder {
 public:
  explicit WordPieceDecoder(const Settings& json)
      : prefix_(json_string(json, "prefix", "##")), cleanup_(json_bool(json, "cleanup", true)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (i > 0) {
        if (token.starts_with(prefix_))
          token.erase(0, prefix_.size());
        else
          token.insert(token.begin(), ' ');
      }
      if (cleanup_) clean_up(token);
    }
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class ByteLevelDecoder final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string bytes, mapped;
    for (const std::string& token : tokens) bytes += to_bytes(token, mapped) ? mapped : token;
    tokens.assign(1, unicode::repair(bytes));
  }

 private:
  /// False for an added token outside the byte alphabet, which stands for itself. The alphabet ends
  /// below U+0800.
  static bool to_bytes(const std::string& token, std::string& out) {
    out.clear();
    for (std::size_t i = 0; i < token.size(); ++i) {
      const auto lead = static_cast<unsigned char>(token[i]);
      char32_t c = lead;
      if (lead >= 0x80) {
        if ((lead & 0xE0) != 0xC0 || i + 1 == token.size()) return false;
        c = static_cast<char32_t>((lead & 0x1F) << 6 |
                                  (static_cast<unsigned char>(token[++i]) & 0x3F));
      }
      const auto byte = byte_of_character(c);
      if (!byte) return false;
      out.push_back(static_cast<char>(*byte));
    }
    return true;
  }
};

class MetaspaceDecoder final : public Decoder {
 public:
  explicit MetaspaceDecoder(const Settings& json)
      : replacement_(
            unicode::encode(std::u32string(1, read_character(json, "replacement", U'\u2581')))),
        prepends_(json_string(json, "prepend_scheme",
                              json_bool(json, "add_prefix_space", true) ? "always" : "never") !=
                  "never") {}
  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], replacement_, i == 0 && prepends_ ? "" : " ");
  }

 private:
  std::string replacement_;
  bool prepends_;
};

class BpeDecoder final : public Decoder {
 public:
  explicit BpeDecoder(const Settings& json) : suffix_(json_string(json, "suffix", "</w>")) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
  }

 private:
  std::string suffix_;
};

class ByteFallbackDecoder final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<std::string> out;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (unicode::is_valid_utf8(bytes))
        out.push_back(bytes);
      else
        out.insert(out.end(), bytes.size(), "\uFFFD");
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = byte_of(token)) {
        bytes.push_back(static_cast<char>(*byte));
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(out);
  }

 private:
  static std::optional<unsigned> byte_of(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    unsigned value = 0;
    for (const char c : {token[3], token[4]}) {
      const char lower = static_cast<char>(c | 0x20);
      const bool digit = c >= '0' && c <= '9';
      if (!digit && !(lower >= 'a' && lower <= 'f')) return std::nullopt;
      value = value * 16 + static_cast<unsigned>(digit ? c - '0' : lower - 'a' + 10);
    }
    return value;
  }
};

class Fuse final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string all;
    for (const std::string& token : tokens) all += token;
    tokens.assign(1, std::move(all));
  }
};

class StripDecoder final : public Decoder {
 public:
  explicit StripDecoder(const Settings& json)
      : content_(unicode::encode(std::u32string(1, read_character(json, "content", U' ')))),
        start_(static_cast<std::size_t>(json_int(json, "start", 0, 1 << 30, 0))),
        stop_(static_cast<std::size_t>(json_int(json, "stop", 0, 1 << 30, 0))) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      std::size_t begin = 0, end = token.size();
      for (std::size_t i = 0; i < start_ && token.compare(begin, content_.size(), content_) == 0;
           ++i)
        begin += content_.size();
      for (std::size_t i = 0; i < stop_ && end >= begin + content_.size() &&
                              token.compare(end - content_.size(), content_.size(), content_) == 0;
           ++i)
        end -= content_.size();
      token = token.substr(begin, end - begin);
    }
  }

 private:
  std::string content_;
  std::size_t start_, stop_;
};

class ReplaceDecoder final : public Decoder {
 public:
  explicit ReplaceDecoder(const Settings& json)
      : pattern_(read_pattern(json.value("pattern"))),
        literal_(json_string(json.value("pattern"), "String", "")),
        content_(json_string(json, "content", "")) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      if (!literal_.empty()) {
        replace_all(token, literal_, content_);
        continue;
      }
      const std::u32string text = unicode::decode(token);
      std::string out;
      std::size_t done = 0;
      pattern_.for_each_match(text, [&](CharRange r) {
        out += unicode::encode(std::u32string_view(text).substr(done, r.begin - done)) + content_;
        done = r.end;
      });
      token = out + unicode::encode(std::u32string_view(text).substr(done));
    }
  }

 private:
  Regex pattern_;
  std::string literal_, content_;
};

class Ctc final : public Decoder {
 public:
  explicit Ctc(const Settings& json)
      : pad_(json_string(json, "pad_token", "<pad>")),
        delimiter_(json_string(json, "word_delimiter_token", "|")),
        cleanup_(json_bool(json, "cleanup", true)) {}
  void apply(std::vector<std::string>& tokens) const override {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (std::string& token : tokens) {
      replace_all(token, pad_, "");
      if (!cleanup_) continue;
      clean_up(token);
      replace_all(token, delimiter_, " ");
    }
    std::erase(tokens, "");
  }

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
};

/// What the reference does without a decoder.
class JoinWithSpaces final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t i = 1; i < tokens.size(); ++i) tokens[i].insert(tokens[i].begin(), ' ');
  }
};

class DecoderSequence final : public Decoder {
 public:
  explicit DecoderSequence(const Settings& json) {
    require(json.has("decoders"), ErrorCode::kInvalidInput,
            "tokenizer: decoder Sequence without \"decoders\"");
    for (const Settings& stage : json.sections("decoders")) stages_.push_back(make_decoder(stage));
  }
  void apply(std::vector<std::string>& tokens) const override {
    for (const auto& stage : stages_) stage->apply(tokens);
  }

 private:
  std::vector<std::unique_ptr<Decoder>> stages_;
};

template <typename T>
std::unique_ptr<Decoder> from_json(const Settings& json) {
  if constexpr (std::is_constructible_v<T, const Settings&>)
    return std::make_unique<T>(json);
  else
    return std::make_unique<T>();
}

constexpr ComponentEntry<Decoder> kDecoders[] = {{"WordPiece", from_json<WordPieceDecoder>},
                                                 {"ByteLevel", from_json<ByteLevelDecoder>},
                                                 {"Metaspace", from_json<MetaspaceDecoder>},
                                                 {"BPEDecoder", from_json<BpeDecoder>},
                                                 {"ByteFallback", from_json<ByteFallbackDecoder>},
                                                 {"Fuse", from_json<Fuse>},
                                                 {"Strip", from_json<StripDecoder>},
                                                 {"Replace", from_json<ReplaceDecoder>},
                                                 {"CTC", from_json<Ctc>},
                                                 {"Sequence", from_json<DecoderSequence>}};

}  // namespace

std::vector<std::string> decoder_types() { return types_of(kDecoders); }

std::unique_ptr<Decoder> make_decoder(const Settings& json) {
  return make_from(kDecoders, "decoder", json);
}

std::unique_ptr<Decoder> make_default_decoder() { return std::make_unique<JoinWithSpaces>(); }

}  // namespace quell
