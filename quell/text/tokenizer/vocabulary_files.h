// The vocabulary files of older repositories, turned into the tokenizer.json object they stand for.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "quell/io/json.h"

namespace quell {

/// What lies beside the vocabulary: tokenizer_config.json (or {}), and model_type of config.json (or "").
struct TokenizerFiles {
  Json config = Json::object();
  std::string model_type;
};
TokenizerFiles read_tokenizer_files(const std::filesystem::path& dir);

// All throw Error(kIo | kInvalidInput | kUnsupported).
/// vocab.txt: one WordPiece token a line.
Json json_of_word_piece(const std::filesystem::path& vocab, const TokenizerFiles& files);
/// vocab.json with merges.txt beside it: byte-level BPE as GPT-2, OPT or RoBERTa use it.
Json json_of_bpe(const std::filesystem::path& vocab, const TokenizerFiles& files);
/// A SentencePiece model (BPE or Unigram): LLaMA, T5, ALBERT, XLM-RoBERTa, or the plain model where the family is not known.
Json json_of_sentencepiece(const std::filesystem::path& model, const TokenizerFiles& files);
Json json_of_sentencepiece(std::string_view bytes, const TokenizerFiles& files);

}  // namespace quell
