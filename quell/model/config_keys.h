// What is known of the keys of config.json that no family reads.
#pragma once

#include <span>

#include "quell/io/settings.h"

namespace quell {

/// Rules for every model type: keys of training, bookkeeping and generation, and those with which
/// the reference computes something else.
std::span<const KeyRule> config_key_rules();

}  // namespace quell
