// BERT: normalizer, pre-tokenizer, WordPiece model and decoder (Devlin et al. 2019; behaviour of huggingface/tokenizers).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

class BertNormalizer final : public Normalizer {
 public:
  BertNormalizer(bool clean_text, bool handle_chinese_chars, bool strip_accents, bool lowercase)
      : clean_text_(clean_text),
        handle_chinese_chars_(handle_chinese_chars),
        strip_accents_(strip_accents),
        lowercase_(lowercase) {}

  std::u32string apply(std::u32string_view text) const override {
    std::u32string out;
    out.reserve(text.size() + 16);
    for (const char32_t c : text) {
      if (clean_text_) {
        const bool kept_space = c == U'\t' || c == U'\n' || c == U'\r';
        if (!kept_space && (c == 0 || c == 0xFFFD || unicode::is_other(c))) continue;
        if (kept_space || unicode::is_whitespace(c)) {
          out.push_back(U' ');
          continue;
        }
      }
      if (handle_chinese_chars_ && unicode::is_cjk(c)) {
        out.append({U' ', c, U' '});
      } else {
        out.push_back(c);
      }
    }
    if (strip_accents_) {
      out = unicode::nfd(out);
      std::erase_if(out, unicode::is_nonspacing_mark);
    }
    return lowercase_ ? unicode::lowercase(out) : out;
  }

 private:
  bool clean_text_, handle_chinese_chars_, strip_accents_, lowercase_;
};

class BertPreTokenizer final : public PreTokenizer {
 public:
  void split(std::u32string_view text, std::vector<std::u32string>& out) const override {
    std::u32string word;
    const auto flush = [&] {
      if (!word.empty()) out.push_back(std::move(word));
      word.clear();
    };
    for (const char32_t c : text) {
      const bool space = unicode::is_whitespace(c), punctuation = !space && unicode::is_punctuation(c);
      if (space || punctuation) flush();
      if (punctuation) out.emplace_back(1, c);
      if (!space && !punctuation) word.push_back(c);
    }
    flush();
  }
};

class WordPiece final : public TokenModel {
 public:
  WordPiece(const Json& vocab, const std::string& unk_token, std::string prefix, std::int64_t max_chars)
      : vocab_(vocab), prefix_(std::move(prefix)), max_chars_(static_cast<std::size_t>(max_chars)) {
    const auto unk = vocab_.find(unk_token);
    require(unk.has_value(), ErrorCode::kInvalidInput, "tokenizer: unknown token \"", unk_token, "\" is not in the vocabulary");
    unk_ = *unk;
    for (const std::string& token : vocab_.tokens) max_token_bytes_ = std::max(max_token_bytes_, token.size());
  }

  /// Greedy longest match from the left; a word that does not come out whole is one unknown token.
  void tokenize(std::u32string_view piece, std::vector<std::int32_t>& ids) const override {
    if (piece.size() > max_chars_) {
      ids.push_back(unk_);
      return;
    }
    const std::size_t first = ids.size();
    for (std::size_t begin = 0; begin < piece.size();) {
      const auto [id, length] = longest(piece.substr(begin), begin > 0);
      if (length == 0) {
        ids.resize(first);
        ids.push_back(unk_);
        return;
      }
      ids.push_back(id);
      begin += length;
    }
  }

  std::optional<std::int32_t> id_of(const std::string& token) const override { return vocab_.find(token); }
  const std::string& token_of(std::int32_t id) const override { return vocab_.token_of(id); }
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(vocab_.tokens.size()); }

 private:
  std::pair<std::int32_t, std::size_t> longest(std::u32string_view rest, bool continuing) const {
    std::string token = continuing ? prefix_ : "";
    std::vector<std::size_t> ends;  // bytes after each character
    for (const char32_t c : rest) {
      unicode::append_utf8(token, c);
      if (token.size() > max_token_bytes_) break;
      ends.push_back(token.size());
    }
    for (std::size_t n = ends.size(); n > 0; --n) {
      token.resize(ends[n - 1]);
      if (const auto id = vocab_.find(token)) return {*id, n};
    }
    return {0, 0};
  }

  Vocabulary vocab_;
  std::string prefix_;
  std::size_t max_chars_, max_token_bytes_ = 0;
  std::int32_t unk_ = 0;
};

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
}

class WordPieceDecoder final : public Decoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}

  std::string join(const std::vector<std::string>& tokens) const override {
    std::string out;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::string token = tokens[i];
      if (i > 0) token = token.starts_with(prefix_) ? token.substr(prefix_.size()) : " " + token;
      if (cleanup_) {
        static constexpr std::pair<const char*, const char*> kRules[] = {
            {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
            {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
        for (const auto& [from, to] : kRules) replace_all(token, from, to);
      }
      out += token;
    }
    return out;
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

}  // namespace

std::unique_ptr<Normalizer> make_bert_normalizer(bool clean_text, bool handle_chinese_chars, bool strip_accents, bool lowercase) {
  return std::make_unique<BertNormalizer>(clean_text, handle_chinese_chars, strip_accents, lowercase);
}
std::unique_ptr<PreTokenizer> make_bert_pre_tokenizer() { return std::make_unique<BertPreTokenizer>(); }
std::unique_ptr<TokenModel> make_word_piece(const Json& vocab, const std::string& unk_token, const std::string& prefix,
                                            std::int64_t max_input_chars_per_word) {
  return std::make_unique<WordPiece>(vocab, unk_token, prefix, max_input_chars_per_word);
}
std::unique_ptr<Decoder> make_word_piece_decoder(const std::string& prefix, bool cleanup) {
  return std::make_unique<WordPieceDecoder>(prefix, cleanup);
}

}  // namespace quell
