#!/usr/bin/env python3
"""Writes an OPT-shaped checkpoint with random half-precision weights, for measuring time and memory of large models.

usage: bench/random_checkpoint.py DIRECTORY [--hidden 2048] [--layers 24] [--heads 32] [--vocabulary 50272] [--seed 1]
The defaults have the shape of OPT-1.3B. A few channels of the norms are 20 times larger, as in real models. Beside the checkpoint it
writes ids.jsonl: 16 rows of 512 random tokens. Needs numpy.
"""
import argparse
import json
import os
import struct

import numpy

parser = argparse.ArgumentParser()
parser.add_argument("directory")
parser.add_argument("--hidden", type=int, default=2048)
parser.add_argument("--layers", type=int, default=24)
parser.add_argument("--heads", type=int, default=32)
parser.add_argument("--vocabulary", type=int, default=50272)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()
h, f, rng = args.hidden, 4 * args.hidden, numpy.random.default_rng(args.seed)

shapes = {"model.decoder.embed_tokens.weight": (args.vocabulary, h), "model.decoder.embed_positions.weight": (2050, h)}
for i in range(args.layers):
    layer = "model.decoder.layers.%d." % i
    for linear, (rows, columns) in {"self_attn.q_proj": (h, h), "self_attn.k_proj": (h, h), "self_attn.v_proj": (h, h),
                                    "self_attn.out_proj": (h, h), "fc1": (f, h), "fc2": (h, f)}.items():
        shapes[layer + linear + ".weight"], shapes[layer + linear + ".bias"] = (rows, columns), (rows,)
    for norm in ("self_attn_layer_norm", "final_layer_norm"):
        shapes[layer + norm + ".weight"], shapes[layer + norm + ".bias"] = (h,), (h,)
shapes["model.decoder.final_layer_norm.weight"], shapes["model.decoder.final_layer_norm.bias"] = (h,), (h,)


def values(name, shape):
    if "layer_norm.weight" in name:
        gamma = 1 + 0.1 * rng.standard_normal(shape)
        if ".layers." in name:
            gamma[rng.choice(h, 6, replace=False)] *= 20
        return gamma
    return 0.02 * rng.standard_normal(shape, dtype=numpy.float32)


os.makedirs(args.directory)
header, offset = {}, 0
for name, shape in shapes.items():
    size = 2 * int(numpy.prod(shape))
    header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
    offset += size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(args.directory, "model.safetensors"), "wb") as out:
    out.write(struct.pack("<Q", len(text)) + text)
    for name, shape in shapes.items():
        out.write(values(name, shape).astype(numpy.float16).tobytes())
config = {"model_type": "opt", "architectures": ["OPTForCausalLM"], "vocab_size": args.vocabulary, "hidden_size": h,
          "word_embed_proj_dim": h, "num_hidden_layers": args.layers, "num_attention_heads": args.heads, "ffn_dim": f,
          "activation_function": "relu", "max_position_embeddings": 2048, "do_layer_norm_before": True, "tie_word_embeddings": True,
          "pad_token_id": 1, "torch_dtype": "float16"}
with open(os.path.join(args.directory, "config.json"), "w") as out:
    json.dump(config, out, indent=1)
with open(os.path.join(args.directory, "ids.jsonl"), "w") as out:
    for _ in range(16):
        out.write(json.dumps({"input_ids": rng.integers(4, args.vocabulary, 512).tolist()}) + "\n")
