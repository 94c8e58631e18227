// Unigram language model (Kudo 2018): the segmentation with the highest sum of scores, by Viterbi.
#include <algorithm>
#include <cmath>
#include <limits>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/byte_alphabet.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/trie.h"

namespace quell {
namespace {

constexpr double kUnknownPenalty = 10.0;

class Unigram final : public TokenModel {
 public:
  explicit Unigram(const Settings& json) {
    const Json& vocab = json.value("vocab");
    require(vocab.is_array() && !vocab.empty() && vocab.size() < (1U << 26),
            ErrorCode::kInvalidInput, "tokenizer: Unigram vocabulary is not a non-empty array");
    for (const Json& entry : vocab) {
      require(entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number(),
              ErrorCode::kInvalidInput,
              "tokenizer: Unigram vocabulary holds something other than [piece, score]");
      const auto id = static_cast<std::int32_t>(tokens_.size());
      tokens_.push_back(entry[0].get<std::string>());
      scores_.push_back(entry[1].get<double>());
      require(std::isfinite(scores_.back()), ErrorCode::kInvalidInput, "tokenizer: score of \"",
              tokens_.back(), "\" is not finite");
      ids_.insert_or_assign(tokens_.back(), id);
    }
    for (const auto& [token, id] : ids_) trie_.insert(unicode::decode(token), id);
    unk_score_ = *std::min_element(scores_.begin(), scores_.end()) - kUnknownPenalty;
    if (!json.value("unk_id").is_null())
      unk_ = static_cast<std::int32_t>(
          json_int(json, "unk_id", 0, static_cast<std::int64_t>(tokens_.size()) - 1));
    if (json_bool(json, "byte_fallback", false)) find_bytes();
  }

  void tokenize(std::u32string_view piece, std::vector<PieceToken>& out) const override {
    std::vector<Best> best(piece.size() + 1);
    for (std::size_t begin = 0; begin < piece.size(); ++begin) extend(piece, begin, best);
    const std::size_t first = out.size();
    for (std::size_t end = piece.size(); end > 0;) {
      std::size_t begin = best[end].begin;
      const std::int32_t id = best[end].id;
      if (id == unk_)  // neighbouring unknowns are one
        while (begin > 0 && best[begin].id == unk_) begin = best[begin].begin;
      emit(piece, begin, end, id, out);
      end = begin;
    }
    std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
  }

  std::optional<std::int32_t> id_of(const std::string& token) const override {
    const auto it = ids_.find(token);
    return it == ids_.end() ? std::nullopt : std::optional(it->second);
  }
  const std::string& token_of(std::int32_t id) const override {
    static const std::string kNone;
    return id >= 0 && id < vocab_size() ? tokens_[static_cast<std::size_t>(id)] : kNone;
  }
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(tokens_.size()); }
  bool repeats_tokens() const override { return ids_.size() != tokens_.size(); }
  std::int32_t id_shown_as_text() const override { return unk_; }

 private:
  struct Best {
    double score = 0;
    std::size_t begin = std::numeric_limits<std::size_t>::max();  ///< max: not reached yet
    std::int32_t id = 0;
  };

  void find_bytes() {
    for (unsigned b = 0; b < 256; ++b)
      bytes_.push_back(id_of(byte_token(static_cast<unsigned char>(b))).value_or(-1));
  }

  /// All pieces that begin at `begin`.
  void extend(std::u32string_view piece, std::size_t begin, std::vector<Best>& best) const {
    const double so_far = best[begin].score;
    const auto offer = [&](std::size_t end, double score, std::int32_t id) {
      Best& target = best[end];
      if (target.begin != std::numeric_limits<std::size_t>::max() && score + so_far <= target.score)
        return;
      target = {score + so_far, begin, id};
    };
    bool single = false;
    std::int32_t node = 0;
    for (std::size_t i = begin; i < piece.size(); ++i) {
      node = trie_.child(node, piece[i]);
      if (node < 0) break;
      const std::int32_t id = trie_.value(node);
      if (id < 0) continue;
      offer(i + 1, scores_[static_cast<std::size_t>(id)], id);
      single |= i == begin;
    }
    if (single) return;
    require(unk_ >= 0, ErrorCode::kInvalidInput,
            "tokenizer: the text holds a character outside the vocabulary, which has no unk_id");
    offer(begin + 1, unk_score_, unk_);
  }

  /// In reverse order, as the caller turns everything around.
  void emit(std::u32string_view piece, std::size_t begin, std::size_t end, std::int32_t id,
            std::vector<PieceToken>& out) const {
    const auto b = static_cast<std::uint32_t>(begin), e = static_cast<std::uint32_t>(end);
    if (id == unk_) {
      const std::string text = unicode::encode(piece.substr(begin, end - begin));
      if (const auto known = id_of(text)) id = *known;  // joined unknowns may spell a token
      const bool whole =
          id == unk_ && !bytes_.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
            return bytes_[static_cast<unsigned char>(c)] >= 0;
          });
      if (whole) {
        for (auto c = text.rbegin(); c != text.rend(); ++c)
          out.push_back({bytes_[static_cast<unsigned char>(*c)], b, e});
        return;
      }
    }
    out.push_back({id, b, e});
  }

  std::vector<std::string> tokens_;
  std::vector<double> scores_;
  std::unordered_map<std::string, std::int32_t> ids_;
  Trie trie_;
  double unk_score_ = 0;
  std::int32_t unk_ = -1;
  std::vector<std::int32_t> bytes_;  ///< ids of <0x00> ... <0xFF>; empty without byte fallback
};

}  // namespace

std::unique_ptr<TokenModel> make_unigram(const Settings& json) {
  return std::make_unique<Unigram>(json);
}

}  // namespace quell
