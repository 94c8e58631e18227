// Any bytes as a YAML recipe: a recipe whose passes can be made, or quell::Error.
#include "quell/base/error.h"
#include "quell/compress/pass.h"
#include "quell/compress/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const quell::Recipe recipe =
        quell::parse_recipe({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (const quell::PassParams& params : recipe.passes) (void)quell::make_pass(params, recipe);
  } catch (const quell::Error&) {
  }
  return 0;
}
