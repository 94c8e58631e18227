// Text to token ids and back, equal to the Hugging Face tokenizers library.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "quell/io/model_directory.h"
#include "quell/text/tokenizer/added_tokens.h"
#include "quell/text/tokenizer/components.h"

namespace quell {

struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t>
      type_ids;  ///< 0 for the first sequence, 1 for the second, where the file says so

  // Only with EncodeOptions::details; one entry a token.
  std::vector<std::string> tokens;
  std::vector<CharSpan>
      offsets;  ///< characters (code points) of the sequence; {0, 0} for special tokens
  std::vector<std::int32_t> special_tokens_mask;
  std::vector<std::int32_t> sequence_ids;  ///< 0, 1, or -1 at special tokens
};

/// Which sequence of a pair is cut, and at which end.
enum class TruncationStrategy { kLongestFirst, kOnlyFirst, kOnlySecond };
struct EncodeOptions {
  std::int64_t max_length = 0;  ///< ids to keep, special tokens included; 0: all
  TruncationStrategy truncation = TruncationStrategy::kLongestFirst;
  bool truncate_left = false;
  bool add_special_tokens = true;
  bool details = false;
};

/// How to fill up the encodings of a batch.
struct Padding {
  std::int64_t length = 0;  ///< 0: the longest of the batch
  std::int64_t multiple_of = 0;
  bool left = false;
  std::int32_t id = 0, type_id = 0;
  std::string token = "[PAD]";
};
/// Pads ids, type ids and details. Returns the attention masks: 1 at tokens, 0 at padding.
std::vector<std::vector<std::int32_t>> pad(std::vector<Encoding>& batch, const Padding& padding);

/// What the files ask for by default; callers decide whether to follow.
struct TokenizerDefaults {
  std::optional<EncodeOptions> truncation;  ///< of tokenizer.json
  std::optional<Padding> padding;           ///< of tokenizer.json

  // Of tokenizer_config.json, or of the class that it names.
  std::optional<std::int64_t> model_max_length;
  bool pad_left = false, truncate_left = false;
};

/// Immutable after opening; may be used from several threads.
class Tokenizer {
 public:
  /// Reads what transformers' AutoTokenizer would read: tokenizer.json, else the vocabulary files
  /// of the class that tokenizer_config.json or config.json names, with the added tokens and
  /// settings beside them. Throws Error(kIo | kInvalidInput | kUnsupported); classes and components
  /// that are not supported are refused by name.
  static Tokenizer open(const ModelDirectory& directory);
  /// `source` names the object in messages.
  static Tokenizer from_json(Json tokenizer, const std::string& source);
  /// The same; what the object holds beyond what was read stays in the record of `tokenizer`.
  static Tokenizer from_settings(const Settings& tokenizer);

  Encoding encode(std::string_view text, const EncodeOptions& options = {}) const;
  Encoding encode_pair(std::string_view first, std::string_view second,
                       const EncodeOptions& options = {}) const;
  /// A pair whose second sequence does not fit into `options.max_length`: one encoding for each
  /// window of it; neighbours share `stride` tokens.
  std::vector<Encoding> encode_pair_windows(std::string_view first, std::string_view second,
                                            const EncodeOptions& options,
                                            std::int64_t stride) const;
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = true) const;
  /// The text of a token in the vocabulary; empty for an unknown id.
  const std::string& token_of(std::int32_t id) const;
  std::optional<std::int32_t> id_of(const std::string& token) const;
  std::int32_t vocab_size() const;
  /// Whether `id` is an added token that is marked as special.
  bool is_special(std::int32_t id) const;
  /// Text is lower-cased in front of everything else (do_lower_case of sentence-transformers).
  void lower_case_first();
  /// Where nothing else is said, texts that are too long lose their beginning.
  void truncate_left_by_default() { truncate_left_ = true; }
  const TokenizerDefaults& defaults() const { return defaults_; }

 private:
  /// Tokens of one sequence. `texts` and `spans` are filled with details only.
  struct Sequence {
    std::vector<std::int32_t> ids;
    std::vector<CharSpan> spans;
    std::vector<std::string> texts;
    void keep(std::size_t n, bool from_left);
    Sequence slice(std::size_t begin, std::size_t end) const;
  };

  Sequence tokenize(std::string_view text, bool details) const;
  void tokenize_part(AlignedText&& text, bool details, Sequence& out) const;
  void tokenize_pieces(AlignedText&& text, bool details, Sequence& out) const;
  void add_token(const AddedToken& token, std::u32string_view text, CharSpan span, bool details,
                 Sequence& out) const;
  void trim_offsets(Sequence& sequence) const;
  std::size_t special_count(bool pair) const;
  Encoding assemble(Sequence a, Sequence b, bool pair, const EncodeOptions& options) const;

  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<TokenModel> model_;
  std::unique_ptr<Decoder> decoder_;
  PostProcessor post_processor_;
  AddedTokens added_;
  TokenizerDefaults defaults_;
  bool clean_up_spaces_ =
      false;              ///< English punctuation of decoded text loses the space in front of it
  std::string word_end_;  ///< becomes a space in decoded text, which is then stripped
  bool truncate_left_ = false;
};

}  // namespace quell
