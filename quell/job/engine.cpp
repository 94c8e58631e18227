#include "quell/job/engine.h"

#include "quell/base/error.h"
#include "quell/engine/lower.h"

namespace quell {

std::unique_ptr<ForwardModel> make_engine(const std::string& name, const Model& model,
                                          ExecContext& ctx) {
  if (name == "float") return make_float_model(model);
  if (name == "bf16") return make_bf16_model(model);
  require(name == "simulated" || name == "simulated-exact" || name == "integer", ErrorCode::kUsage,
          "--engine ", name, " is unknown; use float, bf16, simulated, simulated-exact or integer");
  if (name == "integer") return lower(model, ctx);
  require(model.is_quantized(), ErrorCode::kUsage, model.dir.path().string(),
          ": holds no quantized weights; run `quell quantize` first, or use --engine float");
  return make_simulated_model(model, name == "simulated-exact", ctx.isa);
}

}  // namespace quell
