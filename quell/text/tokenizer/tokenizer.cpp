#include "quell/text/tokenizer/tokenizer.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/byte_alphabet.h"

namespace quell {

void Tokenizer::Sequence::keep(std::size_t n, bool from_left) {
  if (n >= ids.size()) return;
  const auto cut = [&](auto& v) {
    if (v.empty()) return;
    if (from_left)
      v.erase(v.begin(), v.end() - static_cast<std::ptrdiff_t>(n));
    else
      v.resize(n);
  };
  cut(ids);
  cut(spans);
  cut(texts);
}

Tokenizer::Sequence Tokenizer::Sequence::slice(std::size_t begin, std::size_t end) const {
  const auto part = [&](const auto& v) {
    using Vector = std::remove_cvref_t<decltype(v)>;
    return v.empty() ? Vector()
                     : Vector(v.begin() + static_cast<std::ptrdiff_t>(begin),
                              v.begin() + static_cast<std::ptrdiff_t>(end));
  };
  return {part(ids), part(spans), part(texts)};
}

/// `text`: what was matched, with the spaces that the token takes along.
void Tokenizer::add_token(const AddedToken& token, std::u32string_view text, CharSpan span,
                          bool details, Sequence& out) const {
  out.ids.push_back(token.id);
  if (!details) return;
  out.spans.push_back(span);
  out.texts.push_back(unicode::encode(text));
}

void Tokenizer::tokenize_pieces(AlignedText&& text, bool details, Sequence& out) const {
  Pieces pieces{std::move(text), {}};
  pieces.ranges.push_back({0, pieces.text.size()});
  if (pre_tokenizer_) pre_tokenizer_->apply(pieces);
  std::vector<PieceToken> tokens;
  for (const CharRange& piece : pieces.ranges) {
    if (piece.size() == 0) continue;
    tokens.clear();
    model_->tokenize(pieces.text.text(piece), tokens);
    for (const PieceToken& t : tokens) {
      out.ids.push_back(t.id);
      if (!details) continue;
      const CharRange r{piece.begin + t.begin, piece.begin + t.end};
      out.spans.push_back(pieces.text.span(r));
      out.texts.push_back(t.id == model_->id_shown_as_text() ? unicode::encode(pieces.text.text(r))
                                                             : model_->token_of(t.id));
    }
  }
}

/// Text between added tokens that are matched before normalization.
void Tokenizer::tokenize_part(AlignedText&& text, bool details, Sequence& out) const {
  if (normalizer_) normalizer_->apply(text);
  std::vector<AddedTokens::Part> parts;
  added_.find(text.text(), true, parts);
  for (const auto& [range, token] : parts) {
    if (token)
      add_token(*token, text.text(range), text.span(range), details, out);
    else
      tokenize_pieces(parts.size() == 1 ? std::move(text) : text.slice(range), details, out);
  }
}

Tokenizer::Sequence Tokenizer::tokenize(std::string_view text, bool details) const {
  Sequence out;
  const bool track = details || (pre_tokenizer_ && pre_tokenizer_->needs_origins());
  const std::u32string decoded = unicode::decode(text);
  out.ids.reserve(decoded.size() / 3 + 4);
  std::vector<AddedTokens::Part> parts;
  added_.find(decoded, false, parts);
  for (const auto& [range, token] : parts) {
    const std::u32string_view part = std::u32string_view(decoded).substr(range.begin, range.size());
    if (token)
      add_token(*token, part,
                {static_cast<std::int32_t>(range.begin), static_cast<std::int32_t>(range.end)},
                details, out);
    else
      tokenize_part(AlignedText(part, range.begin, track), details, out);
  }
  if (details && post_processor_.trim_offsets) trim_offsets(out);
  return out;
}

/// Spaces at the ends of byte-level tokens do not count; one that was added in front counts for
/// nothing.
void Tokenizer::trim_offsets(Sequence& sequence) const {
  const auto is_space = [](char32_t c) {
    return c == character_of_byte(' ') || unicode::is(c, unicode::kWhitespace);
  };
  for (std::size_t i = 0; i < sequence.ids.size(); ++i) {
    const std::u32string text = unicode::decode(sequence.texts[i]);
    CharSpan& span = sequence.spans[i];
    auto leading = static_cast<std::int32_t>(std::find_if_not(text.begin(), text.end(), is_space) -
                                             text.begin());
    const auto trailing = static_cast<std::int32_t>(
        std::find_if_not(text.rbegin(), text.rend(), is_space) - text.rbegin());
    if (leading > 0) {
      if ((i == 0 || span.begin == 0) && post_processor_.add_prefix_space) --leading;
      span.begin = std::min(span.begin + leading, span.end);
    }
    if (trailing > 0 && span.end >= trailing) span.end = std::max(span.end - trailing, span.begin);
  }
}

namespace {

struct Lengths {
  std::size_t a, b;
};

/// How many tokens of each sequence fit into `limit`.
Lengths truncate(Lengths n, bool pair, std::size_t limit, TruncationStrategy strategy) {
  if (n.a + n.b <= limit) return n;
  if (!pair || strategy == TruncationStrategy::kOnlyFirst ||
      strategy == TruncationStrategy::kOnlySecond) {
    std::size_t& cut = pair && strategy == TruncationStrategy::kOnlySecond ? n.b : n.a;
    const std::size_t excess = n.a + n.b - limit;
    require(cut > excess || !pair, ErrorCode::kInvalidInput, "max_length ", limit,
            ": the sequence to be cut is too short for it");
    cut -= std::min(cut, excess);
    return n;
  }
  const bool swap = n.a > n.b;
  std::size_t low = std::min(n.a, n.b), high = low > limit ? low : std::max(low, limit - low);
  if (low + high > limit) {
    low = limit / 2;
    high = low + limit % 2;
  }
  return swap ? Lengths{high, low} : Lengths{low, high};
}

}  // namespace

std::size_t Tokenizer::special_count(bool pair) const {
  std::size_t count = 0;
  for (const auto& piece : pair ? post_processor_.pair : post_processor_.single)
    count += piece.ids.size();
  return count;
}

Encoding Tokenizer::assemble(Sequence a, Sequence b, bool pair,
                             const EncodeOptions& options) const {
  static const std::vector<PostProcessor::Piece> kPlainSingle = {{0, 0, {}}},
                                                 kPlainPair = {{0, 0, {}}, {1, 1, {}}};
  const bool plain =
      !options.add_special_tokens || (pair ? post_processor_.pair : post_processor_.single).empty();
  const auto& pieces = plain ? (pair ? kPlainPair : kPlainSingle)
                             : (pair ? post_processor_.pair : post_processor_.single);
  if (options.max_length > 0) {
    const std::size_t special = plain ? 0 : special_count(pair);
    const auto limit = static_cast<std::size_t>(options.max_length);
    require(limit > special, ErrorCode::kUsage, "max_seq_length ", options.max_length,
            " leaves no room for text beside ", special, " special tokens");
    const Lengths kept =
        truncate({a.ids.size(), b.ids.size()}, pair, limit - special, options.truncation);
    const bool from_left = options.truncate_left || truncate_left_;
    a.keep(kept.a, from_left);
    b.keep(kept.b, from_left);
  }
  Encoding out;
  for (const auto& piece : pieces) {
    const Sequence* sequence = piece.sequence == 0 ? &a : piece.sequence == 1 ? &b : nullptr;
    const std::vector<std::int32_t>& ids = sequence ? sequence->ids : piece.ids;
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    out.type_ids.resize(out.ids.size(), piece.type_id);
    if (!options.details) continue;
    out.special_tokens_mask.resize(out.ids.size(), sequence ? 0 : 1);
    out.sequence_ids.resize(out.ids.size(), piece.sequence);
    if (sequence) {
      out.tokens.insert(out.tokens.end(), sequence->texts.begin(), sequence->texts.end());
      out.offsets.insert(out.offsets.end(), sequence->spans.begin(), sequence->spans.end());
    } else {
      for (const std::int32_t id : ids) out.tokens.push_back(token_of(id));
      out.offsets.resize(out.ids.size());
    }
  }
  return out;
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  return assemble(tokenize(text, options.details), {}, false, options);
}

Encoding Tokenizer::encode_pair(std::string_view first, std::string_view second,
                                const EncodeOptions& options) const {
  return assemble(tokenize(first, options.details), tokenize(second, options.details), true,
                  options);
}

std::vector<Encoding> Tokenizer::encode_pair_windows(std::string_view first,
                                                     std::string_view second,
                                                     const EncodeOptions& options,
                                                     std::int64_t stride) const {
  EncodeOptions whole = options;
  whole.max_length = 0;
  const Sequence a = tokenize(first, options.details), b = tokenize(second, options.details);
  const std::size_t used = a.ids.size() + special_count(true),
                    limit = static_cast<std::size_t>(options.max_length);
  if (used + b.ids.size() <= limit) return {assemble(a, b, true, whole)};

  require(limit > used + static_cast<std::size_t>(stride), ErrorCode::kInvalidInput,
          "max_seq_length ", limit, " leaves no room for windows beside ", used, " tokens");
  std::vector<Encoding> out;
  const std::size_t room = limit - used;
  for (std::size_t begin = 0; out.empty() || begin < b.ids.size();
       begin += room - static_cast<std::size_t>(stride)) {
    const std::size_t end = std::min(begin + room, b.ids.size());
    out.push_back(assemble(a, b.slice(begin, end), true, whole));
    if (end == b.ids.size()) break;
  }
  return out;
}

const std::string& Tokenizer::token_of(std::int32_t id) const {
  const AddedToken* added = added_.by_id(id);
  return added ? added->content : model_->token_of(id);
}

std::optional<std::int32_t> Tokenizer::id_of(const std::string& token) const {
  for (const AddedToken& added : added_.all())
    if (added.content == token) return added.id;
  return model_->id_of(token);
}

namespace {

std::string without_word_ends(std::string text, const std::string& word_end) {
  replace_all(text, word_end, " ");
  std::u32string characters = unicode::decode(text);
  const auto is_space = [](char32_t c) { return unicode::is(c, unicode::kWhitespace); };
  while (!characters.empty() && is_space(characters.back())) characters.pop_back();
  characters.erase(characters.begin(),
                   std::find_if_not(characters.begin(), characters.end(), is_space));
  return unicode::encode(characters);
}

std::string without_spaces_before_punctuation(std::string text) {
  static constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
      {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
  return text;
}

}  // namespace

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  const bool look_again = skip_special_tokens && model_->repeats_tokens();
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    const AddedToken* added = added_.by_id(id);
    if (added) {
      if (!(skip_special_tokens && added->skipped)) tokens.push_back(added->decoded);
    } else if (const std::string& token = model_->token_of(id); !token.empty()) {
      if (!(look_again && added_.is_special(token))) tokens.push_back(token);
    }
  }
  decoder_->apply(tokens);
  std::string out;
  for (const std::string& token : tokens) out += token;
  if (!word_end_.empty()) out = without_word_ends(out, word_end_);
  if (clean_up_spaces_) out = without_spaces_before_punctuation(out);
  return out;
}

bool Tokenizer::is_special(std::int32_t id) const {
  const AddedToken* added = added_.by_id(id);
  return added && added->special;
}

namespace {

class LowerCaseFirst final : public Normalizer {
 public:
  explicit LowerCaseFirst(std::unique_ptr<Normalizer> rest) : rest_(std::move(rest)) {}
  void apply(AlignedText& text) const override {
    lower_case_->apply(text);
    if (rest_) rest_->apply(text);
  }

 private:
  std::unique_ptr<Normalizer> lower_case_ = make_normalizer(Settings(Json{{"type", "Lowercase"}})),
                              rest_;
};

}  // namespace

void Tokenizer::lower_case_first() {
  normalizer_ = std::make_unique<LowerCaseFirst>(std::move(normalizer_));
}

std::int32_t Tokenizer::vocab_size() const {
  std::int32_t size = model_->vocab_size();
  for (const AddedToken& token : added_.all()) size = std::max(size, token.id + 1);
  return size;
}

std::vector<std::vector<std::int32_t>> pad(std::vector<Encoding>& batch, const Padding& padding) {
  std::size_t length = static_cast<std::size_t>(padding.length);
  if (length == 0)
    for (const Encoding& e : batch) length = std::max(length, e.ids.size());
  if (const auto multiple = static_cast<std::size_t>(padding.multiple_of); multiple > 0)
    length = (length + multiple - 1) / multiple * multiple;
  std::vector<std::vector<std::int32_t>> masks;
  for (Encoding& e : batch) {
    const std::size_t missing = length - std::min(length, e.ids.size());
    masks.emplace_back(e.ids.size(), 1);
    const auto fill = [&](auto& v, const auto& value) {
      v.insert(padding.left ? v.begin() : v.end(), missing, value);
    };
    fill(masks.back(), 0);
    fill(e.type_ids, padding.type_id);
    if (e.tokens.size() == e.ids.size()) {
      fill(e.tokens, padding.token);
      fill(e.offsets, CharSpan{});
      fill(e.special_tokens_mask, 1);
      fill(e.sequence_ids, -1);
    }
    fill(e.ids, padding.id);
  }
  return masks;
}

}  // namespace quell
