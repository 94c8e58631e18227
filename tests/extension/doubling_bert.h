#pragma once

#include "quell/model/family.h"

namespace quell::testing {

extern const Family doubling_bert;

}  // namespace quell::testing
