// Which class of transformers reads a directory: the decision of its AutoTokenizer (5.24).
#pragma once

#include <string>

#include "quell/io/model_directory.h"

namespace quell {

/// The class without rules of its own, which takes tokenizer.json as it is.
inline constexpr const char* kPlainClass = "TokenizersBackend";

struct TokenizerClass {
  std::string name;  ///< the class that reads the directory, without "Fast"; "" where nothing tells
  std::string stated;  ///< the class that the files name; "" where they name none
  std::string file;    ///< that names the class or the model_type
  std::string source;  ///< for messages: `tokenizer_class "Foo"`, `model_type "bar"`
};

/// `config`: tokenizer_config.json.
TokenizerClass find_tokenizer_class(const ModelDirectory& directory, const Settings& config);

}  // namespace quell
