// Which build of the trainer this is.
#pragma once

#include <string_view>

namespace quell::train {

/// As quell::build_id, of the sources of train/ and train_job/.
std::string_view build_id();

}  // namespace quell::train
