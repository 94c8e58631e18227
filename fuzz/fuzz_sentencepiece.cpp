// A SentencePiece model: a tokenizer that encodes and decodes, or quell::Error. The first byte
// chooses the family.
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "quell/text/tokenizer/vocabulary_files.h"

namespace {

quell::Json tokenizer_of(std::string_view bytes, const char* family) {
  const quell::SentencePieceModel model = quell::read_sentencepiece(bytes);
  const quell::ClassRule* rule = quell::find_class_rule(family);
  if (!rule) return quell::json_of_sentencepiece(model, {});

  quell::ClassInputs inputs;
  quell::read_sentencepiece_for(*rule, model, inputs);
  quell::ClassBuilder builder(std::move(inputs));
  rule->build(builder);
  return builder.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static constexpr const char* kFamilies[] = {"", "T5Tokenizer", "AlbertTokenizer",
                                              "XLMRobertaTokenizer"};
  if (size == 0) return 0;
  try {
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const quell::Tokenizer tokenizer =
        quell::Tokenizer::from_json(tokenizer_of(bytes, kFamilies[data[0] % 4]), "fuzz");
    (void)tokenizer.decode(tokenizer.encode("Once  upon a time\xc3\xa9 \xff 12").ids);
  } catch (const quell::Error&) {
  }
  return 0;
}
