// Stages of tokenizers that transformers has in Python (BertJapaneseTokenizer), with the Unicode
// tables of Python 3.11. They are no types of tokenizer.json: classes ask for them.
#pragma once

#include "quell/text/tokenizer/components.h"

namespace quell {

/// BasicTokenizer up to its words: invisible characters dropped, spaces made equal, form NFC; with
/// "lowercase" also str.lower() and without accents.
inline constexpr const char* kPythonNormalizer = "quell.PythonBasic";
/// Words between white space, punctuation by itself.
inline constexpr const char* kPythonWords = "quell.PythonWords";
/// Each piece by itself in the form NFKC.
inline constexpr const char* kPythonPieceNfkc = "quell.PythonPieceNfkc";

/// Null for other types.
std::unique_ptr<Normalizer> make_python_normalizer(const Settings& json);
std::unique_ptr<PreTokenizer> make_python_pre_tokenizer(const Settings& json);

}  // namespace quell
