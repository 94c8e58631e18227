#include "quell/base/cpu_features.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "quell/base/error.h"

namespace quell {
namespace {
constexpr Isa kAllIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512Vnni, Isa::kAmx};

#if defined(__x86_64__)
/// One bit of leaf 7, which the compiler's own table of features does not name in every version.
bool leaf7_bit(unsigned subleaf, unsigned reg, unsigned bit) {
  unsigned r[4] = {};
  return __get_cpuid_count(7, subleaf, &r[0], &r[1], &r[2], &r[3]) != 0 &&
         (r[reg] >> bit & 1U) != 0;
}

/// The operating system grants the large tile state once, on request (arch_prctl
/// ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
bool request_amx() {
#if defined(__linux__)
  static const bool granted = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return granted;
#else
  return false;
#endif
}
#endif
}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvxVnni: return "avx_vnni";
    case Isa::kAvx512Vnni: return "avx512_vnni";
    case Isa::kAmx: return "amx";
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
  if (isa == Isa::kAvxVnni) return cpu_supports(Isa::kAvx2) && leaf7_bit(1, 0, 4);
  if (isa == Isa::kAmx)  // bf16, tiles, int8
    return cpu_supports(Isa::kAvx512Vnni) && leaf7_bit(0, 3, 22) && leaf7_bit(0, 3, 24) &&
           leaf7_bit(0, 3, 25) && request_amx();
  if (isa == Isa::kAvx512Vnni)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
#endif
  return false;
}

Isa best_isa() {
  if (const char* forced = std::getenv("QUELL_ISA"); forced && *forced) {
    const std::optional<Isa> isa = isa_from_name(forced);
    require(isa.has_value(), ErrorCode::kUsage, "QUELL_ISA=", forced,
            ": unknown; use portable, avx2, avx_vnni, avx512_vnni or amx");
    require(cpu_supports(*isa), ErrorCode::kUsage, "QUELL_ISA=", forced,
            ": this processor does not support it");
    return *isa;
  }
  Isa best = Isa::kPortable;
  for (const Isa isa : kAllIsas)
    if (cpu_supports(isa)) best = isa;
  return best;
}

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  std::string family, model, name;
  for (std::string line; std::getline(in, line) && !line.empty();) {
    const auto value = [&] { return line.substr(std::min(line.size(), line.find(':') + 2)); };
    if (line.starts_with("model name")) name = value();
    if (line.starts_with("cpu family")) family = value();
    if (line.starts_with("model\t")) model = value();
  }
  return name.empty() ? "unknown" : name + " (family " + family + ", model " + model + ")";
}

}  // namespace quell
