#include "quell/model/config_keys.h"

namespace quell {
namespace {

using Effect = KeyRule::Effect;

constexpr KeyRule kRules[] = {
    // Where the file comes from, and what other readers make of it.
    {"name_or_path"},
    {"transformers_version"},
    {"torch_dtype"},
    {"dtype"},
    {"model_type"},
    {"architectures"},
    {"task_specific_params"},
    {"finetuning_task"},
    {"tokenizer_class"},
    {"tokenizer_file"},
    {"adapters"},
    {"_*"},  // notes; a family that reads such a key has read it

    // Training alone.
    {"*dropout*"},
    {"*_pdrop"},
    {"initializer_*"},
    {"init_*"},
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
    {"tie_last_hidden_states"},
    {"torchscript"},
    {"chunk_size_feed_forward"},
    {"attn_implementation"},
    {"use_flash_attention*"},
    {"pretraining_tp"},
    {"use_bfloat16"},
    {"fp16"},
    {"bf16"},
    {"tf_legacy_loss"},

    // Labels and ids that are read elsewhere, or by nobody.
    {"label2id"},
    {"id2label"},
    {"num_labels"},
    {"problem_type"},
    {"bos_token_id"},
    {"sentence_transformers"},
    {"sbert_ce_default_activation_function"},
    {"eos_token_ids"},
    {"sep_token_id"},
    {"cls_token_id"},
    {"mask_token_id"},
    {"unk_token_id"},
    {"decoder_start_token_id"},
    {"tie_word_embeddings"},  // of a model without a table to tie

    // Generation reads them itself (generation_settings.cpp).
    {"max_length"},
    {"min_length"},
    {"max_new_tokens"},
    {"min_new_tokens"},
    {"do_sample"},
    {"early_stopping"},
    {"num_beams"},
    {"num_beam_groups"},
    {"diversity_penalty"},
    {"temperature"},
    {"top_k"},
    {"top_p"},
    {"typical_p"},
    {"repetition_penalty"},
    {"length_penalty"},
    {"no_repeat_ngram_size"},
    {"encoder_no_repeat_ngram_size"},
    {"bad_words_ids"},
    {"num_return_sequences"},
    {"output_scores"},
    {"return_dict_in_generate"},
    {"forced_bos_token_id"},
    {"forced_eos_token_id"},
    {"force_bos_token_to_be_generated"},
    {"remove_invalid_values"},
    {"exponential_decay_length_penalty"},
    {"suppress_tokens"},
    {"begin_suppress_tokens"},
    {"prefix"},

    // Sections with readers of their own.
    {"quantization_config"},  // null
    {"quantization_config.version"},
    {"quantization_config.quantization_status"},
    {"quantization_config.global_compression_ratio"},
    {"quantization_config.ignore"},
    {"quantization_config.*.observer"},
    {"quantization_config.*.observer_kwargs"},
    {"quantization_config.*.scale_dtype"},
    {"quantization_config.*.zp_dtype"},
    {"quantization_config.sparsity_config*"},
    {"quell.*", Effect::kChangesResults, "[]", "a setting of a later Quell"},

    // The reference computes something else.
    {"is_encoder_decoder", Effect::kChangesResults, "[null, false]", "an encoder and a decoder"},
    {"tie_encoder_decoder", Effect::kChangesResults, "[null, false]",
     "one set of weights for encoder and decoder"},
    {"is_decoder", Effect::kChangesResults, "[null, false]", "an encoder used as a decoder"},
    {"add_cross_attention", Effect::kChangesResults, "[null, false]",
     "cross-attention in a model that has none"},
    {"cross_attention_hidden_size", Effect::kChangesResults, "[null]",
     "cross-attention in a model that has none"},
    {"pruned_heads", Effect::kChangesResults, "[null, {}, []]",
     "a model from which heads were removed"},
    {"position_embedding_type", Effect::kChangesResults, "[null, \"absolute\"]",
     "another kind of positions"},
    {"per_layer_config", Effect::kChangesResults, "[null, {}]",
     "layers with settings of their own"},
    {"compression_config", Effect::kChangesResults, "[null, {}]",
     "a checkpoint compressed by another tool"},
};

}  // namespace

std::span<const KeyRule> config_key_rules() { return kRules; }

}  // namespace quell
