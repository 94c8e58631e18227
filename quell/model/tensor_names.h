// Which tensor of a checkpoint a parameter is, and what becomes of those that nobody reads.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "quell/io/checkpoint.h"

namespace quell {

/// The name under which the file holds `name`: as it is, without the family's prefix, as older
/// sentence-transformers wrote it, or with the old names of norms.
std::optional<std::string> locate_tensor(const Checkpoint& checkpoint, std::string_view prefix,
                                         const std::string& name);

/// Throws Error(kInvalidInput) saying that `name` is missing, and why that may be.
[[noreturn]] void tensor_is_missing(const Checkpoint& checkpoint, const std::string& name);

/// The tensor of that very name, which joins `used`. Throws Error(kInvalidInput) where it is
/// missing.
const TensorView& need_tensor(const Checkpoint& checkpoint, const std::string& name,
                              std::set<std::string>& used);

/// Whether two tensors hold the same values, whatever their types.
bool same_values(const TensorView& a, const TensorView& b);

/// Throws Error(kUnsupported) where the tensor does not hold floating-point numbers.
void require_float(const Checkpoint& checkpoint, const std::string& name, const TensorView& view);

/// Those of `unused` that can mean that config.json belongs to another model: buffers and heads of
/// training are left out.
std::vector<std::string> suspicious_tensors(const Checkpoint& checkpoint,
                                            const std::vector<std::string>& unused);

/// One warning with their number and the first names.
void warn_about_tensors(const Checkpoint& checkpoint, const std::vector<std::string>& suspicious);

}  // namespace quell
