// Vocabularies of repositories without tokenizer.json, as their tokenizer class (class_rules.h)
// wants them.
#pragma once

#include <filesystem>

#include "quell/text/tokenizer/class_rules.h"
#include "quell/text/tokenizer/sentencepiece.h"

namespace quell {

// All throw Error(kIo | kInvalidInput | kUnsupported). They fill `vocab`, `merges` and what else
// the file tells.
/// vocab.txt: one token a line.
void read_word_piece(const std::filesystem::path& vocab, ClassInputs& inputs);
/// The same as Python reads text: a line ends at \r, \n or both, and white space at its end belongs
/// to the token.
void read_python_lines(const std::filesystem::path& path, ClassInputs& inputs);
/// vocab.json with merges.txt beside it.
void read_bpe(const std::filesystem::path& vocab, ClassInputs& inputs);
/// A SentencePiece model for a class with rules of its own.
void read_sentencepiece_for(const ClassRule& rule, const SentencePieceModel& model,
                            ClassInputs& inputs);

/// The tokenizer.json object of a SentencePiece model without a class: it is taken as SentencePiece
/// itself takes it, without begin and end tokens where no file asks for them; `begin` puts a begin
/// token in front unless a file says otherwise.
Json json_of_sentencepiece(const SentencePieceModel& model, ClassInputs inputs, bool begin = false);

}  // namespace quell
