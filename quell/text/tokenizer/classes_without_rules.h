// Tokenizer classes that transformers (5.24) has and Quell has no rules for.
#pragma once

#include <optional>
#include <string>

#include "quell/text/tokenizer/tokenizer_class.h"

namespace quell {

/// For a class that goes by rules of its own even beside a tokenizer.json, which Quell follows in
/// its stead: refuses a setting of `config` (tokenizer_config.json) that the class would apply over
/// the file and that says something else than the file (throws Error(kUnsupported), unless the user
/// accepted the key), and returns the warning that is due in any case. Nothing for other classes.
std::optional<std::string> check_class_without_rules(const TokenizerClass& tokenizer_class,
                                                     const Settings& config,
                                                     const Json& tokenizer_json);

}  // namespace quell
