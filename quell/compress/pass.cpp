#include "quell/compress/pass.h"

#include "quell/base/error.h"

namespace quell {

std::unique_ptr<Pass> make_pass(const PassParams& params, const Recipe& recipe) {
  std::string known;
  for (const PassFactory* factory : all_of(static_cast<const PassFactory*>(nullptr))) {
    if (factory->name == params.pass()) return factory->make(params, recipe);
    known += (known.empty() ? "" : ", ") + std::string(factory->name);
  }
  throw Error(ErrorCode::kInvalidInput, "pass \"" + params.pass() + "\" is unknown; known are " + known);
}

}  // namespace quell
