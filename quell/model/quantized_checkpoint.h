// The compressed-tensors `int-quantized` layout, read into Params (written by
// exporting/compressed_tensors.cpp), and Quell's own section beside it: config.json key "quell",
// tensors "quell.*". docs/format.md describes both.
#pragma once

#include <optional>
#include <set>

#include "quell/io/quantization_config.h"
#include "quell/model/model.h"

namespace quell {

inline constexpr const char* kQuellKey = "quell";            ///< top-level key of config.json
inline constexpr const char* kAddedPrefix = "quell.added.";  ///< + module + ".weight" or ".bias"
inline constexpr const char* kRestorePrefix = "quell.restore.";  ///< + node + ".scale" or ".shift"
inline constexpr const char* kExplicitPrefix = "quell.explicit.";  ///< likewise
inline constexpr const char* kClampPrefix = "quell.clamp.";        ///< + node + ".high"
inline constexpr const char* kGroupsPrefix =
    "quell.groups.";  ///< + node + ".channels", ".scale" or ".zero_point"

/// Throws Error(kUnsupported) where config.json's section is of a later version. Its keys count as
/// read.
void check_quell_section(const Settings& config);
/// Modules of batch norms that the convolutions of the checkpoint hold already (key
/// "folded_batch_norms").
std::vector<std::string> folded_batch_norms_of(const Json& config);
/// Whether `weight_name` ("...weight") holds integer codes with scales beside it.
bool is_quantized_module(const Checkpoint& checkpoint, const std::string& weight_name);
/// Codes and steps of a linear, as config.json's section describes them.
QTensor read_quantized_weight(const Checkpoint& checkpoint, const Json& config,
                              const std::string& weight_name, const Packing& packing,
                              const Shape& shape, std::set<std::string>& used);
/// Codes and steps of one matrix [rows, columns] as `packing` stores it.
QTensor read_qtensor(const Checkpoint& checkpoint, const std::string& weight_name,
                     const QuantSpec& spec, const Packing& packing, const Shape& shape,
                     std::set<std::string>& used);
/// How the table of `module` is quantized (section "quell", key "embeddings"); nothing where it is
/// not.
std::optional<QuantSpec> table_spec(const Json& config, const std::string& module);
/// Writes that down in `config`. All tables have one spec, of steps by row.
void record_table(const QuantSpec& spec, const std::string& module, Json& config);
/// Whether the head `module` multiplies with the codes of the table that it is tied to (section
/// "quell", key "coded_heads").
bool is_coded_head(const Json& config, const std::string& module);
ActivationQuant read_input_quant(const Checkpoint& checkpoint, const Json& config,
                                 const std::string& weight_name, std::set<std::string>& used);
/// `shape` [rows, columns] of a linear or [rows] of its bias with the channels that quantization
/// added (key "added_channels").
Shape with_added_channels(const Json& config, Shape shape, Param& p);
void read_added_tensors(const Checkpoint& checkpoint, const Shape& weight_shape, Param& p,
                        std::set<std::string>& used);
/// Attention quantizers, groups of channels, restore and explicit affines, switches. Throws
/// Error(kInvalidInput).
void read_quell_section(const Checkpoint& checkpoint, Model& model);

/// One activation quantizer as JSON, and back.
Json activation_quant_to_json(const ActivationQuant& quant);
ActivationQuant activation_quant_from_json(const Json& json);

/// Under `quell.`: a bias or weight that quantization added to `p`, by its suffix (".weight",
/// ".bias").
std::string added_tensor_name(const Param& p, const std::string& suffix);

}  // namespace quell
