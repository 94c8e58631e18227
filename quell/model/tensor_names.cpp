#include "quell/model/tensor_names.h"

#include <algorithm>
#include <cstring>

#include "quell/base/error.h"
#include "quell/base/log.h"

namespace quell {
namespace {

/// How tensors of other formats are called, where config.json does not name the format.
constexpr std::pair<std::string_view, const char*> kOtherFormats[] = {
    {".qweight", "GPTQ or AWQ"},
    {".weight_packed", "compressed-tensors pack-quantized"},
    {".weight.absmax", "bitsandbytes with 4 bits"},
    {".W_q", "HQQ"},
    {".lora_A.weight", "an adapter (peft: merge_and_unload)"},
    {".lora_A.default.weight", "an adapter (peft: merge_and_unload)"},
    {".base_layer.weight", "a model inside an adapter (peft: merge_and_unload)"},
};

/// With its ending `from` replaced, or nothing.
std::optional<std::string> with_ending(std::string name, std::string_view from,
                                       std::string_view to) {
  if (!name.ends_with(from)) return std::nullopt;
  name.replace(name.size() - from.size(), from.size(), to);
  return name;
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) {
    return name.find(part) != std::string_view::npos;
  });
}

/// What older versions of transformers stored with a model and can compute, and heads that only
/// training uses.
bool is_harmless(std::string_view name, const TensorView& view) {
  if (is_one_of(name,
                {"position_ids", "rotary_emb.inv_freq", "masked_bias", "embeddings.token_type_ids",
                 "encoder.version", "decoder.version", "cls.seq_relationship", "sop_classifier",
                 "mask_predictions", "lm_predictions", "EncDecAttention.relative_attention_bias",
                 "embeddings.position_embeddings", "model.shared."}))
    return true;
  if (is_one_of(name, {"pooler."})) return true;

  // Causal masks; a bias of a linear has one dimension.
  const bool mask = name.ends_with("attn.bias") || name.ends_with("attention.bias");
  return mask && view.shape().rank() != 1;
}

}  // namespace

std::optional<std::string> locate_tensor(const Checkpoint& checkpoint, std::string_view prefix,
                                         const std::string& name) {
  std::vector<std::string> candidates = {name};
  if (name.starts_with(prefix)) {
    const std::string bare = name.substr(prefix.size());
    for (const char* wrapper : {"", "auto_model.", "0.auto_model."})
      candidates.push_back(wrapper + bare);
  }
  for (std::size_t i = 0, n = candidates.size(); i < n; ++i) {
    if (const auto old = with_ending(candidates[i], "LayerNorm.weight", "LayerNorm.gamma"))
      candidates.push_back(*old);
    if (const auto old = with_ending(candidates[i], "LayerNorm.bias", "LayerNorm.beta"))
      candidates.push_back(*old);
  }

  for (const std::string& candidate : candidates)
    if (checkpoint.tensors().contains(candidate)) return candidate;
  return std::nullopt;
}

void tensor_is_missing(const Checkpoint& checkpoint, const std::string& name) {
  std::string reason = "is config.json of another model?";
  for (const char* wrapper : {"module.", "_orig_mod."})
    if (const auto at = checkpoint.tensors().lower_bound(wrapper);
        at != checkpoint.tensors().end() && at->first.starts_with(wrapper))
      reason = str("names begin with \"", wrapper,
                   "\", as of a model that was saved inside its wrapper; save the model itself");
  for (const auto& [ending, method] : kOtherFormats)
    for (const auto& [tensor, view] : checkpoint.tensors())
      if (tensor.ends_with(ending))
        throw Error(
            ErrorCode::kUnsupported,
            checkpoint.source_of(tensor) + ": tensor \"" + tensor + "\" is of " + method +
                ", which is not supported; Quell reads float checkpoints and compressed-tensors "
                "int-quantized");
  throw Error(ErrorCode::kInvalidInput,
              checkpoint.dir().string() + ": tensor \"" + name + "\" is missing; " + reason);
}

const TensorView& need_tensor(const Checkpoint& checkpoint, const std::string& name,
                              std::set<std::string>& used) {
  const auto it = checkpoint.tensors().find(name);
  require(it != checkpoint.tensors().end(), ErrorCode::kInvalidInput, checkpoint.dir().string(),
          ": tensor \"", name, "\" is missing");
  used.insert(name);
  return it->second;
}

bool same_values(const TensorView& a, const TensorView& b) {
  if (a.shape() != b.shape()) return false;
  if (a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.num_bytes()) == 0) return true;

  const Tensor x = to_f32(a, "table"), y = to_f32(b, "table");
  return std::equal(x.f32().begin(), x.f32().end(), y.f32().begin());
}

void require_float(const Checkpoint& checkpoint, const std::string& name, const TensorView& view) {
  const DType type = view.dtype();
  const bool floating =
      type == DType::kF64 || type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
  require(floating, ErrorCode::kUnsupported, checkpoint.source_of(name), ": tensor \"", name,
          "\" holds ", dtype_name(type), " without scales that Quell knows (",
          name.substr(0, name.rfind('.')),
          ".weight_scale); another tool quantized it, in a way that is not supported");
}

std::vector<std::string> suspicious_tensors(const Checkpoint& checkpoint,
                                            const std::vector<std::string>& unused) {
  std::vector<std::string> out;
  for (const std::string& name : unused)
    if (!is_harmless(name, checkpoint.tensors().at(name))) out.push_back(name);
  return out;
}

void warn_about_tensors(const Checkpoint& checkpoint, const std::vector<std::string>& suspicious) {
  if (suspicious.empty()) return;

  constexpr std::size_t kShown = 3;
  std::string names;
  for (std::size_t i = 0; i < std::min(kShown, suspicious.size()); ++i)
    names += (i ? ", " : "") + suspicious[i];
  if (suspicious.size() > kShown) names += ", ...";
  log_once(LogLevel::kWarning, str(checkpoint.dir().string(), ": ", suspicious.size(),
                                   " tensors that config.json has no place for were "
                                   "not used: ",
                                   names));
}

}  // namespace quell
