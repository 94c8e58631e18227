// `quell models`: what the registries hold.
#pragma once

#include <string>

#include "quell/io/json_fwd.h"

namespace quell {

/// Families with their architectures, tokenizer components by stage, tasks.
Json list_models();
/// The same as docs/models.md, which a test compares with it.
std::string models_markdown();

}  // namespace quell
