#include "quell/job/models_page.h"

namespace quell {

const char* what_is_read_markdown() {
  return R"(## What of a model directory counts

The rule: what changes the result in transformers is applied, or refused with one line that names the file, the key, its value and what to do. What is known to change
nothing (training, bookkeeping, dropout) is passed over. A key that Quell does not know is warned about once. `quell inspect MODEL` lists all of this, file by file.
`--accept KEY` (may be repeated; `section.key` inside a section) goes on in spite of a refusal, with other results than transformers'; `quantize` records it in
`config.json`, so that nobody is asked again. A key that met nothing is a usage error.

### config.json

- A missing key has the default that its class has in transformers 5, sizes included. `null` is not a missing key: it means "none" where the class allows that
  (`sliding_window`, the soft caps of Gemma 2, `pad_token_id`, ...), and is refused elsewhere.
- General names (`hidden_size` for `n_embd`, ...) are read wherever the class has them, and win over the own ones.
- Rotary positions: types `default`, `linear`, `dynamic`, `llama3`, `yarn`, `proportional`, and `longrope` where one table serves the whole context; `rope_parameters`
  of transformers 5, `rope_scaling` with `type` or `rope_type` of transformers 4, and the keys beside them. `dynamic` scales beyond `max_position_embeddings` only, where
  Quell does not go. Refused: `longrope` with two tables in use, rotary positions by type of layer, other types.
- Windows: `sliding_window`, `layer_types`, `use_sliding_window`, `max_window_layers`, `attention_types` as each family reads them. A type of layer other than
  `full_attention` and `sliding_attention` is refused.
- Activations: `relu`, `gelu` and `gelu_python`, `gelu_new`, `gelu_fast`, `gelu_accurate`, `gelu_pytorch_tanh` and `gelu_python_tanh`, `silu` and `swish`, `tanh`, `relu2`. All others are refused by name.
- `"is_causal": false` makes a decoder attend to both sides, as in transformers: for `quell embed`, not for `quell generate`. Refused
  with a sliding window and with an encoder before it; GPT-Neo does not read it.
- Refused where the value is not the harmless one: `is_decoder` and `add_cross_attention` of encoders, `position_embedding_type`, `pruned_heads`, `per_layer_config`, `tie_encoder_decoder`,
  `compression_config`; `use_bidirectional_attention` (Gemma 2), `apply_residual_connection_post_layernorm` (BLOOM), `qk_layernorm` (Phi), `conv_kernel_size`, `share_att_key: false`,
  `embedding_size` and `attention_head_size` other than usual (DeBERTa), `normalize_before` and its kin (BART).
- Of several `architectures` the first is used, with a warning; one that the family does not have is refused.

### Tensors

- Names with or without the family's prefix (`bert.`, `model.`, `transformer.`), old names of norms. Names inside a wrapper (`module.`, `_orig_mod.`) are refused.
- Tied tables may be stored under any of their names. Where the file holds two that differ, they are not tied, as in transformers 5, and a warning says so. A bias under two names is the linear's own.
- An encoder without pooler offers no `pooler_output`. A classifier of a decoder reads the last token that is not `pad_token_id`, on whichever side the padding is.
- Left over without a word: position ids, rotary frequencies, causal masks, poolers and heads of pretraining. Others are counted and named in one warning.
- Integers without scales that Quell knows are refused. Weights in other files beside those that count (`consolidated.safetensors`, shards beside `model.safetensors`) are named in a warning; variants
  (`model.fp16.safetensors`) are not read. `adapter_config.json` is refused: merge the adapter first.

### Quantized checkpoints

- compressed-tensors (`quantization_config`) with format `int-quantized`, `naive-quantized` or `pack-quantized`: one group of linears, integer weights, quantized inputs, static or dynamic.
- BitNet b1.58 (`quant_method` `bitnet`; compared on the families `bitnet` and `llama`): ternary codes with one step a tensor, inputs of 8 bits with a step a token. `linear_class` `bitlinear` (a weight is code / `weight_scale`) and
  `autobitlinear` (code * `weight_scale`, the bias too; with `quantization_mode` `online` codes are made of the float weights by their mean, when they are read). Codes are packed four rows to a byte, or floats. The engines
  `simulated` and `integer` compute what transformers does in f32; `float` leaves inputs as they are. Linears named in `modules_to_not_convert` and heads are floats. Refused: `use_rms_norm`, a linear without `weight_scale`,
  packed rows that are no multiple of four, patterns in `modules_to_not_convert`.
- ParetoQ (key `w_bits` and tensors `weight_clip_val`, as its training saves LLaMA): codes of 1 to 4 bits, `0` for ternary ones, with a step a row, made of the float weights in f32 when they are read; the four levels of 2 bits are
  the odd codes of 3 bits. Inputs are floats there: `--engine float` computes that, `simulated` and `integer` give them 8 bits a token. MobileLLM-ParetoQ was published as a pickle with rounded weights and without clips:
  convert it first; where its config.json has `w_bits`, `--accept w_bits` reads the weights as floats.

Refused by name before tensors are read: every other `quant_method` (GPTQ, AWQ, bitsandbytes, HQQ, EETQ, FP8, ...) and format (`float-quantized`, ...), several groups, other targets, weights alone, quantized outputs,
`kv_cache_scheme`, `sparsity_config`, `transform_config`, an `actorder` with `g_idx`.

### Sizes by a scheme

`quell inspect MODEL --scheme W2A8` adds what the model takes as the papers on training with few bits count it, in MB of 2^20 bytes. `config.json` alone is enough. The forms: `W2A8`; `W1.58A8`, ternary codes, five to a
byte (1.6 bits each, a plain packing, no entropy code); `"W2A8 E8"` where embeddings have other bits than the matrices. Bits are 1.58, 2 to 8, or 32 for floats; those of the activations change no size.
Codes: the table of words (a tied head is the same table and counts once, a head of its own counts as one more), all matrices of the layers, the pooler. f32: positions, types, norms, biases, classifiers. BART's
`final_logits_bias` is a buffer and does not count. The papers differ in the steps they count, so there are three lines; in bold the one that their numbers are:

| | floats | bits | codes, without steps | with a step for each matrix | and one for each row of the word table |
|---|---|---|---|---|---|
| BERT-base | 417.64 | 2 | 27.95 | 27.95 | **28.07** |
| GPT-2 | 474.70 | 8 / 4 / 2 | **121.27 / 62.37 / 32.92** | 121.27 / 62.37 / 32.92 | 121.46 / 62.56 / 33.11 |
| BART-base | 531.85 | 2 | **39.41** | 39.42 | 39.61 |

### generation_config.json

Read by `generate` and the summarization task. Where it is there, it counts alone, as in transformers: without `eos_token_id` in it nothing ends the text. Without the file, the same keys of `config.json` count.
Applied: `eos_token_id` (one or several), `decoder_start_token_id`, `forced_bos_token_id`, `forced_eos_token_id`, `min_length`, `min_new_tokens`, `max_length` and `max_new_tokens` (where `--max-new-tokens` is not given),
`repetition_penalty`, `no_repeat_ngram_size`, `bad_words_ids`, `suppress_tokens`, `begin_suppress_tokens`. Sampling and beams (`do_sample`, `num_beams`, `temperature`, ...) are Quell's own options; that a model asks for them is said once.
Refused: `guidance_scale`, `sequence_bias`, `encoder_repetition_penalty`, `encoder_no_repeat_ngram_size`, `exponential_decay_length_penalty`, `forced_decoder_ids`, `stop_strings`, `watermarking_config`,
`token_healing`, `penalty_alpha`, `dola_layers`, `constraints`, `force_words_ids`.

)";
}

}  // namespace quell
