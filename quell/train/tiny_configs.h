// config.json of tiny models, for tests.
#pragma once

#include "quell/io/json.h"

namespace quell::train {

inline constexpr int kTinyWords = 13;

/// A classifier of three classes.
inline Json tiny_bert(int layers) {
  return {{"model_type", "bert"},
          {"architectures", {"BertForSequenceClassification"}},
          {"vocab_size", kTinyWords},
          {"hidden_size", 8},
          {"num_hidden_layers", layers},
          {"num_attention_heads", 2},
          {"intermediate_size", 16},
          {"hidden_act", "gelu"},
          {"max_position_embeddings", 16},
          {"type_vocab_size", 2},
          {"num_labels", 3}};
}

inline Json tiny_gpt2(int layers) {
  return {{"model_type", "gpt2"},     {"architectures", {"GPT2LMHeadModel"}},
          {"vocab_size", kTinyWords}, {"n_embd", 8},
          {"n_layer", layers},        {"n_head", 2},
          {"n_positions", 16},        {"eos_token_id", 1}};
}

/// With as many layers in the decoder.
inline Json tiny_bart(int layers) {
  return {{"model_type", "bart"},
          {"architectures", {"BartForConditionalGeneration"}},
          {"vocab_size", kTinyWords},
          {"d_model", 8},
          {"encoder_layers", layers},
          {"decoder_layers", layers},
          {"encoder_attention_heads", 2},
          {"decoder_attention_heads", 2},
          {"encoder_ffn_dim", 16},
          {"decoder_ffn_dim", 16},
          {"max_position_embeddings", 16},
          {"pad_token_id", 1},
          {"eos_token_id", 2},
          {"decoder_start_token_id", 2}};
}

/// Wide enough for groups of 128 columns.
inline Json tiny_llama(int layers) {
  return {{"model_type", "llama"},       {"architectures", {"LlamaForCausalLM"}},
          {"vocab_size", kTinyWords},    {"hidden_size", 128},
          {"num_hidden_layers", layers}, {"num_attention_heads", 2},
          {"intermediate_size", 128},    {"max_position_embeddings", 16}};
}

}  // namespace quell::train
