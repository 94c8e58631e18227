// A SentencePiece model: a tokenizer that encodes and decodes, or quell::Error. The first byte chooses the family.
#include "quell/base/error.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/text/tokenizer/vocabulary_files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static constexpr const char* kFamilies[] = {"", "t5", "albert", "xlm-roberta"};
  if (size == 0) return 0;
  try {
    quell::TokenizerFiles files;
    files.model_type = kFamilies[data[0] % 4];
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const quell::Tokenizer tokenizer = quell::Tokenizer::from_json(quell::json_of_sentencepiece(bytes, files), "fuzz");
    (void)tokenizer.decode(tokenizer.encode("Once  upon a time\xc3\xa9 \xff 12").ids);
  } catch (const quell::Error&) {
  }
  return 0;
}
