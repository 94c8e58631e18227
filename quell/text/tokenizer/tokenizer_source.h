// What a directory says about its tokenizer, as the tokenizer.json object that it stands for.
#pragma once

#include "quell/text/tokenizer/class_rules.h"

namespace quell {

struct TokenizerSource {
  Settings json;
  const ClassRule* rule =
      nullptr;           ///< of the class that made the object; null for tokenizer.json as it is
  bool is_file = false;  ///< the object is tokenizer.json itself, whose leftovers are to be judged
  std::vector<std::string> warnings;  ///< to be said when the tokenizer has been made
};

/// `config`: tokenizer_config.json. Throws Error(kIo | kInvalidInput | kUnsupported).
TokenizerSource read_tokenizer_source(const ModelDirectory& directory, const Settings& config);

}  // namespace quell
