// What this processor can do, found at run time.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace quell {

/// Instruction sets that kernels exist for, weakest first.
enum class Isa { kPortable, kAvx2, kAvxVnni, kAvx512Vnni, kAmx };

std::string_view isa_name(Isa isa);  // "portable", "avx2", "avx_vnni", "avx512_vnni", "amx"
std::optional<Isa> isa_from_name(std::string_view name);

/// Whether the processor and the operating system support `isa`.
bool cpu_supports(Isa isa);

/// The strongest supported ISA, or the one that the environment variable QUELL_ISA forces. Throws
/// Error(kUsage) when QUELL_ISA names an unknown ISA or one that this processor lacks.
Isa best_isa();

/// The name that the kernel gives the processor, with family and model; "unknown" where it gives
/// none.
std::string processor_name();

}  // namespace quell
