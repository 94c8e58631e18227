// Text to token ids and back, equal to the Hugging Face tokenizers library on the components that are supported.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "quell/text/tokenizer/components.h"

namespace quell {

struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> type_ids;  ///< 0 for the first sequence, 1 for the second, where the file says so
};

/// Immutable after opening; may be used from several threads.
class Tokenizer {
 public:
  /// Reads tokenizer.json, else vocab.txt (WordPiece), else vocab.json + merges.txt (byte-level BPE). Throws Error(kIo |
  /// kInvalidInput | kUnsupported); components that are not supported are refused by name.
  static Tokenizer open(const std::filesystem::path& dir);
  static Tokenizer from_json(const Json& tokenizer, const std::string& source);

  /// `max_length` > 0 keeps that many ids, special tokens included; of a pair, the longer sequence is cut first.
  Encoding encode(std::string_view text, std::int64_t max_length = 0, bool add_special_tokens = true) const;
  Encoding encode_pair(std::string_view first, std::string_view second, std::int64_t max_length = 0) const;
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special_tokens = true) const;
  std::int32_t vocab_size() const;

 private:
  struct AddedToken {
    std::int32_t id = 0;
    std::u32string content;
    std::string utf8;
    bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;
  };

  static Tokenizer from_word_piece_files(const std::filesystem::path& dir, const Json& config);
  static Tokenizer from_bpe_files(const std::filesystem::path& dir, const Json& config);

  void read_added_token(const Json& json);
  void prepare_added_tokens();
  std::vector<std::int32_t> tokenize(std::string_view text) const;
  void tokenize_text(std::u32string_view text, std::vector<std::int32_t>& ids) const;
  void tokenize_normalized(std::u32string_view text, std::vector<std::int32_t>& ids) const;
  Encoding assemble(std::vector<std::int32_t> a, std::vector<std::int32_t> b, bool pair, std::int64_t max_length,
                    bool add_special_tokens) const;

  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<TokenModel> model_;
  std::unique_ptr<Decoder> decoder_;
  PostProcessor post_processor_;
  std::vector<AddedToken> added_;  ///< longest first
};

}  // namespace quell
