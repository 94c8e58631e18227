#include "quell/model/config_keys.h"

namespace quell {
namespace {

using Effect = KeyRule::Effect;

constexpr KeyRule kRules[] = {
    // Where the file comes from.
    {"_name_or_path"},
    {"_commit_hash"},
    {"transformers_version"},
    {"torch_dtype"},
    {"dtype"},
    {"model_type"},
    {"architectures"},
    {"task_specific_params"},
    {"finetuning_task"},

    // Training alone.
    {"*dropout*"},
    {"*_pdrop"},
    {"initializer_*"},
    {"init_std"},
    {"gradient_checkpointing"},
    {"layerdrop"},
    {"*_layerdrop"},
    {"summary_*"},

    // What is handed back beside the result, and how it is computed.
    {"use_cache"},
    {"output_attentions"},
    {"output_hidden_states"},
    {"output_past"},
    {"return_dict"},
    {"torchscript"},
    {"chunk_size_feed_forward"},
    {"_attn_implementation*"},
    {"attn_implementation"},
    {"pretraining_tp"},

    // Labels and ids that are read elsewhere, or by nobody.
    {"label2id"},
    {"id2label"},
    {"problem_type"},
    {"bos_token_id"},
    {"sentence_transformers"},
    {"sbert_ce_default_activation_function"},

    // Sections with readers of their own.
    {"quantization_config"},
    {"quell"},

    // The reference computes something else.
    {"is_decoder", Effect::kChangesResults, "[null, false]", "an encoder used as a decoder"},
    {"add_cross_attention", Effect::kChangesResults, "[null, false]", "cross-attention in a model that has none"},
    {"pruned_heads", Effect::kChangesResults, "[null, {}, []]", "heads that were removed"},
};

}  // namespace

std::span<const KeyRule> config_key_rules() { return kRules; }

}  // namespace quell
