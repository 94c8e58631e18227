#include "quell/base/cpu_features.h"

#include <cstdlib>

#include "quell/base/error.h"

namespace quell {
namespace {
constexpr Isa kAllIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni};
}

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512Vnni: return "avx512_vnni";
  }
  return "unknown";
}

std::optional<Isa> isa_from_name(std::string_view name) {
  for (const Isa isa : kAllIsas)
    if (isa_name(isa) == name) return isa;
  return std::nullopt;
}

bool cpu_supports(Isa isa) {
  if (isa == Isa::kPortable) return true;
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::kAvx512Vnni)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
#endif
  return false;
}

Isa best_isa() {
  if (const char* forced = std::getenv("QUELL_ISA"); forced && *forced) {
    const std::optional<Isa> isa = isa_from_name(forced);
    require(isa.has_value(), ErrorCode::kUsage, "QUELL_ISA=", forced, ": unknown; use portable, avx2 or avx512_vnni");
    require(cpu_supports(*isa), ErrorCode::kUsage, "QUELL_ISA=", forced, ": this processor does not support it");
    return *isa;
  }
  Isa best = Isa::kPortable;
  for (const Isa isa : kAllIsas)
    if (cpu_supports(isa)) best = isa;
  return best;
}

}  // namespace quell
