// A tokenizer.json, then a NUL, then text: ids inside the vocabulary that decode without a crash,
// or quell::Error.
#include <cstdlib>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t nul = std::min(all.find('\0'), all.size());
  const std::string_view text =
      nul < all.size() ? all.substr(nul + 1) : std::string_view("a text\xc3\xa9 \xff 12");
  try {
    const quell::Tokenizer tokenizer =
        quell::Tokenizer::from_json(quell::parse_json(all.substr(0, nul), "fuzz"), "fuzz");
    (void)tokenizer.decode(tokenizer.encode(text).ids);
    (void)tokenizer.encode_pair(text, text, {.max_length = 12, .details = true});
  } catch (const quell::Error&) {
  }
  return 0;
}
