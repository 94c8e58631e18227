// The pipeline over sites: equivalence passes, calibration, codes, in the order of execution.
#pragma once

#include <string>
#include <vector>

#include "quell/compress/journal.h"
#include "quell/compress/recipe.h"
#include "quell/compress/site.h"
#include "quell/engine/engines.h"

namespace quell {

/// Carries `recipe` out on `model` with calibration `samples` (kept by the caller while this runs).
/// Every value a quantizer or pass sees comes from predecessors that are already quantized. After
/// every equivalence plan the float function is compared at the site's linears, and at the model's
/// outputs in the end: Error(kVerification) when it changed. Error(kInvalidInput) when nothing is
/// left to quantize. With a `journal` every site's plans are kept as soon as they are made, and
/// those that it holds already are carried out instead of searched.
void compress(Model& model, const std::vector<TokenBatch>& samples, const Recipe& recipe,
              ExecContext& ctx, const Journal* journal = nullptr);

/// The float function is compared on so many tokens, at least one sequence.
inline constexpr std::int64_t kComparedTokens = 1024;

SiteScope scope_of(const Recipe& recipe);
/// What can be known before any work. Throws Error(kInvalidInput | kUnsupported) where `recipe`
/// does not fit the model.
void check_recipe(const Model& model, const Recipe& recipe);

}  // namespace quell
