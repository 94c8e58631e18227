#include "quell/io/quantization_config.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/io/json.h"

namespace quell {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kUnsupported,
              "key \"quantization_config\": " + what +
                  " is not supported; Quell reads float checkpoints, and quantized ones of "
                  "compressed-tensors as int-quantized or pack-quantized, and of bitnet");
}

bool says_nothing(const Json& value) { return value.is_null() || value == false || value.empty(); }

/// Quantizer of weights or inputs.
void check_args(const Settings& args, const std::string& name) {
  const std::string type = json_string(args, "type", "int");
  if (type != "int") refuse(name + " of type \"" + type + "\"");
  if (!says_nothing(args.value("block_structure"))) refuse(name + " in blocks");
  if (const Json& dynamic = args.value("dynamic"); !dynamic.is_null() && !dynamic.is_boolean())
    refuse(name + " with dynamic " + dynamic.dump());

  const Json& order = args.value("actorder");
  if (!says_nothing(order) && order != "static" && order != "weight")
    refuse(name + " in an order of their own (actorder " + order.dump() + ", g_idx)");
  for (const char* key : {"num_bits", "symmetric", "strategy", "group_size"}) args.value(key);
}

void check_group(const Settings& group, const std::string& format) {
  const std::string own_format = json_string(group, "format", format);
  if (own_format != format) refuse("format \"" + own_format + "\" of one group");
  if (!says_nothing(group.value("output_activations")))
    refuse("quantization of outputs (output_activations)");

  const Json& targets = group.value("targets");
  for (const Json& target : targets.is_array() ? targets : Json::array())
    if (target != "Linear" && target != "Conv1D") refuse("target " + target.dump());

  check_args(group.section("weights"), "weights");
  if (!group.has("input_activations"))
    refuse("quantization of the weights alone (compressed-tensors format \"" + format +
           "\", input_activations null)");
  check_args(group.section("input_activations"), "input_activations");
}

/// Older files of bitsandbytes do not name their method.
std::string method_of(const Settings& section) {
  std::string method = json_string(section, "quant_method", "");
  const bool bits = section.has("load_in_8bit") || section.has("load_in_4bit");
  if (method.empty() && bits) method = "bitsandbytes";
  return method;
}

}  // namespace

bool is_known_format(const std::string& format) {
  for (const char* known :
       {"int-quantized", "naive-quantized", "pack-quantized", kOwnIntFormat, kOwnPackedFormat})
    if (format == known) return true;
  return false;
}

std::optional<BitNetSettings> read_bitnet_settings(const Settings& config) {
  using Weights = BitNetSettings::Weights;
  if (!config.has("quantization_config")) return std::nullopt;
  const Settings section = config.section("quantization_config");
  if (method_of(section) != "bitnet") return std::nullopt;

  const std::string linear_class = json_string(section, "linear_class", "bitlinear");
  const bool has_own_class = linear_class == "autobitlinear";
  if (!has_own_class && linear_class != "bitlinear")
    refuse("bitnet with linear_class \"" + linear_class + "\"");
  const std::string mode = json_string(section, "quantization_mode", "offline");
  if (mode != "offline" && mode != "online")
    refuse("bitnet with quantization_mode \"" + mode + "\"");
  if (json_bool(section, "use_rms_norm", false))
    refuse("bitnet with a norm inside each linear (use_rms_norm)");
  section.value("rms_norm_eps");  // of that norm

  BitNetSettings settings;
  if (has_own_class) settings.weights = mode == "online" ? Weights::kFloats : Weights::kTimesScale;
  const Json& modules = section.value("modules_to_not_convert");
  if (modules.is_null()) return settings;

  settings.float_modules.emplace();
  require(modules.is_array(), ErrorCode::kInvalidInput,
          "key \"quantization_config\": modules_to_not_convert must be a list of modules");
  for (const Json& module : modules) {
    const bool is_name = module.is_string() && module.get<std::string>().find_first_of(
                                                   "*+?^$()[]{}|\\") == std::string::npos;
    if (!is_name) refuse("modules_to_not_convert with " + module.dump() + ", which is no name,");
    settings.float_modules->push_back(module.get<std::string>());
  }
  return settings;
}

std::optional<int> read_paretoq_bits(const Settings& config) {
  constexpr std::int64_t kMaxBits = 4, kFloatBits = 16;
  const Json& bits = config.value("w_bits");
  if (bits.is_null() || (bits.is_number_integer() && bits >= kFloatBits)) return std::nullopt;

  const bool known = bits.is_number_integer() && bits >= 0 && bits <= kMaxBits;
  require(known, ErrorCode::kUnsupported, "key \"w_bits\": ", bits.dump(),
          " is not supported; ParetoQ has weights of 1 to 4 bits, and 0 for ternary ones");
  require(!config.has("quantization_config"), ErrorCode::kUnsupported,
          "key \"w_bits\": ParetoQ's codes beside a quantization_config are not supported");
  return bits.get<int>();
}

void check_quantization_config(const Settings& config) {
  if (read_paretoq_bits(config) || !config.has("quantization_config")) return;
  if (read_bitnet_settings(config)) return;

  const Settings section = config.section("quantization_config");
  const std::string method = method_of(section);
  if (method != "compressed-tensors")
    refuse(method.empty() ? "a quantization without quant_method"
                          : "quant_method \"" + method + "\"");
  const std::string format = json_string(section, "format", "");
  if (format.empty()) refuse("compressed-tensors without a format");
  if (!is_known_format(format)) refuse("compressed-tensors format \"" + format + "\"");

  if (!says_nothing(section.value("kv_cache_scheme")))
    refuse("quantization of keys and values (kv_cache_scheme)");
  if (!says_nothing(section.value("transform_config")))
    refuse("a rotation at run time (transform_config)");
  const Settings sparsity = section.section("sparsity_config");
  const std::string sparse_format = json_string(sparsity, "format", "dense");
  if (sparse_format != "dense") refuse("sparsity_config of format \"" + sparse_format + "\"");

  const Settings groups = section.section("config_groups");
  if (groups.json().size() != 1)
    refuse("compressed-tensors format \"" + format + "\" with " +
           (groups.json().empty() ? "no config_groups" : "several config_groups"));
  check_group(groups.section(groups.json().begin().key()), format);
}

}  // namespace quell
