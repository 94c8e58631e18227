#!/usr/bin/env python3
"""Writes the folders beside it: tiny checkpoints with few bits in their published layouts, and the logits that the reference gives.
usage: record.py            BitNet b1.58 as transformers reads it, ../models/bitnet in floats and ../config_defaults/bitnet.json; needs torch 2.15, transformers 5.24, accelerate
       record.py PARETOQ    the checkpoints of facebookresearch/ParetoQ; PARETOQ is a checkout, whose models/utils_quant.py quantizes"""
import json
import os
import pathlib
import shutil
import sys

os.environ["TORCHDYNAMO_DISABLE"] = "1"
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitNetConfig, LlamaConfig

HERE = pathlib.Path(__file__).resolve().parent
SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None)
ONE_LAYER = dict(SIZES, num_hidden_layers=1)
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def random_model(config, seed):
    """In float32, with weights large enough that every linear matters."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else 0.3 * noise)
    return model


def is_linear(name):
    return name.endswith(".weight") and name.split(".")[-2] in LINEARS


def inputs_of(seed, batch=2, length=9):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, SIZES["vocab_size"], (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length - 3:] = 0
    return ids, mask


def as_int(tensor):
    return tensor.to(torch.int32).contiguous()


def greedy(model, ids):
    prompt = ids[:2, :5]
    mask = torch.ones_like(prompt)
    with torch.no_grad():
        made = model.generate(prompt, attention_mask=mask, do_sample=False, max_new_tokens=16, min_new_tokens=16,
                              eos_token_id=None, pad_token_id=0)
    return {"generate.input_ids": as_int(prompt), "generate.attention_mask": as_int(mask), "generate.output_ids": as_int(made)}


def record(model, folder):
    ids, mask = inputs_of(7)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    out = {"input_ids": as_int(ids), "attention_mask": as_int(mask), "logits": logits.contiguous()}
    save_file({**out, **greedy(model, ids)}, folder / "reference.safetensors")


def write(folder, config, tensors, changes):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config.architectures = [{"bitnet": "BitNetForCausalLM", "llama": "LlamaForCausalLM"}[config.model_type]]
    config.save_pretrained(folder)
    path = folder / "config.json"
    text = json.loads(path.read_text())
    text.update(changes)
    path.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors",
              {"format": "pt"})


def ternary(weight):
    scale = weight.abs().mean().clamp(min=1e-5)
    return (weight / scale).round().clamp(-1, 1), scale


def record_bitnet(name, config, seed, quantization, packed=True):
    """The floats in bf16, as they are published; the reference computes in float32."""
    from transformers.integrations.bitnet import pack_weights
    tensors = {}
    for key, value in random_model(config, seed).state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        is_float = any(key.startswith(module) for module in quantization.get("modules_to_not_convert", []))
        if packed and is_linear(key) and not is_float:
            codes, scale = ternary(value)
            step = scale if quantization.get("linear_class") == "autobitlinear" else 1 / scale
            tensors[key] = pack_weights(codes)
            tensors[key + "_scale"] = step.reshape(1).to(torch.bfloat16)
        else:
            tensors[key] = value.to(torch.bfloat16)
    folder = HERE / name
    write(folder, config, tensors, {"quantization_config": {"quant_method": "bitnet", **quantization}, "dtype": "float32"})
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    record(torch.nn.Module.float(loaded).eval(), folder)  # some tensors keep the type of the file


def record_paretoq(w_bits):
    from models.utils_quant import StretchedElasticQuant
    config = LlamaConfig(**ONE_LAYER)
    model = random_model(config, 20 + w_bits)
    tensors = {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(parameter.to(torch.bfloat16).to(torch.float32))
            tensors[key] = parameter.detach().clone().to(torch.bfloat16)
            if not is_linear(key):
                continue
            largest = parameter.abs().amax(dim=-1, keepdim=True)
            clip = (0.8 * largest).to(torch.bfloat16)
            tensors[key[:-len("weight")] + "weight_clip_val"] = clip
            parameter.copy_(StretchedElasticQuant.apply(parameter, clip.to(torch.float32), w_bits, False))
    folder = HERE / f"paretoq-{w_bits}"
    write(folder, config, tensors, {"w_bits": w_bits, "dtype": "float32"})
    record(model, folder)


def record_defaults():
    """What the class takes where config.json says nothing, as ../config_defaults/defaults.json has it of other families."""
    import transformers
    defaults = BitNetConfig().to_dict()
    del defaults["transformers_version"]
    path = HERE.parent / "config_defaults" / "bitnet.json"
    path.parent.mkdir(exist_ok=True)
    text = {"transformers": transformers.__version__, "defaults": {"bitnet": defaults}}
    path.write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")


def record_float_bitnet():
    """A case of ../models: every hidden state, padded left and right, greedy generation."""
    config = BitNetConfig(**SIZES)
    model = random_model(config, 3)
    folder = HERE.parent / "models" / "bitnet"
    write(folder, config, dict(model.state_dict()), {"dtype": "float32"})
    ids, mask = inputs_of(11, 3, 10)
    left_ids, left_mask = inputs_of(13, 2, 10)
    left_ids, left_mask = left_ids.flip(1), left_mask.flip(1)
    positions = (left_mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        right = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        left = model(input_ids=left_ids, attention_mask=left_mask, position_ids=positions)
    out = {"input_ids": as_int(ids), "attention_mask": as_int(mask), "logits": right.logits.contiguous(),
           "left.input_ids": as_int(left_ids), "left.attention_mask": as_int(left_mask),
           "left.position_ids": as_int(positions), "left.logits": left.logits.contiguous(), **greedy(model, ids)}
    out.update({f"hidden_states.{i}": state.contiguous() for i, state in enumerate(right.hidden_states)})
    save_file(out, folder / "reference.safetensors")


if len(sys.argv) > 1:
    sys.path.insert(0, sys.argv[1])
    for bits in (0, 2):
        record_paretoq(bits)
else:
    record_defaults()
    record_float_bitnet()
    record_bitnet("bitnet-bitlinear", BitNetConfig(**SIZES), 4, {})
    record_bitnet("bitnet-offline", BitNetConfig(**SIZES, tie_word_embeddings=True), 5,
                  {"linear_class": "autobitlinear", "quantization_mode": "offline"})
    record_bitnet("bitnet-online", BitNetConfig(**ONE_LAYER), 6,
                  {"linear_class": "autobitlinear", "quantization_mode": "online"}, False)
    record_bitnet("llama-offline", LlamaConfig(**SIZES, attention_bias=True), 10,
                  {"linear_class": "autobitlinear", "quantization_mode": "offline"})
    record_bitnet("llama-bitlinear", LlamaConfig(**ONE_LAYER, attention_bias=True), 9,
                  {"linear_class": "bitlinear", "modules_to_not_convert": ["lm_head", "model.layers.0.mlp"]})
