// Keys of tokenizer files that nobody reads, and whether they could change what a tokenizer does.
#pragma once

#include <span>

#include "quell/io/settings.h"

namespace quell {

/// Of tokenizer.json.
std::span<const KeyRule> tokenizer_key_rules();
/// Of tokenizer_config.json.
std::span<const KeyRule> tokenizer_config_key_rules();

}  // namespace quell
