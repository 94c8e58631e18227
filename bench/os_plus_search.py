#!/usr/bin/env python3
"""The threshold search of OS+ beside the official implementation: same inputs, same machine, same number of threads, in turns.

usage: bench/os_plus_search.py QUELL_SEARCH_BENCH OFFICIAL_DIR [--shapes bert,opt-125m,opt-1.3b] [--schemes int8,int6,int6_token,int4_group]
OFFICIAL_DIR: a checkout of ModelTC/Outlier_Suppression_Plus (3ba97ae). Needs torch, numpy, scipy, safetensors and transformers, the
last only because the official package imports it. Inputs are random with outlier channels as language models have them. Prints
Markdown: seconds, their ratio, the thresholds that both choose, and the share of all rows x candidates that the race had to compute.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import types

parser = argparse.ArgumentParser()
parser.add_argument("bench")
parser.add_argument("official")
parser.add_argument("--shapes", default="bert,opt-125m")
parser.add_argument("--schemes", default="int8,int6")
parser.add_argument("--rounds", type=int, default=3)
args = parser.parse_args()

for missing in ("matplotlib", "matplotlib.pyplot", "datasets"):  # imported there for plots and data that this does not use
    sys.modules[missing] = types.ModuleType(missing)
sys.modules["matplotlib"].pyplot = sys.modules["matplotlib.pyplot"]
sys.path.insert(0, args.official)
import logging  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from quant_transformer.quantization.migration import Migrator1DRangeSearch  # noqa: E402

logging.disable(logging.INFO)

# batch, length, hidden, heads, intermediate
SHAPES = {"bert": (32, 128, 768, 12, 3072), "opt-125m": (16, 512, 768, 12, 3072), "opt-1.3b": (16, 512, 2048, 32, 8192),
          "small": (8, 64, 128, 4, 512)}
# bits, symmetric and quantizer of activations, then of weights, granularities, group
SCHEMES = {"int8": (8, True, "FixedFakeQuantize", -1, True, -1, "tensor", "tensor", 0),
           "int6": (6, False, "FixedFakeQuantize", -1, False, 0, "tensor", "channel", 0),
           "int6_token": (6, False, "TokenFixedFakeQuantize", 0, False, 0, "token", "channel", 0),
           "int4_group": (4, False, "GroupFixedFakeQuantize", 0, False, 0, "group", "group", 128)}


def inputs(shape, rows, seed):
    batch, length, hidden, _, _ = SHAPES[shape]
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, hidden, generator=g)
    for c in torch.randperm(hidden, generator=g)[:8].tolist():  # a few channels many times as broad and off centre
        x[..., c] = x[..., c] * (4 + 12 * torch.rand(1, generator=g)) + 30 * torch.randn(1, generator=g)
    mask = torch.ones(batch, length)
    for i in range(batch):  # padding on the right
        mask[i, length - int(torch.randint(0, length // 4, (1,), generator=g)):] = 0
    mask[0] = 1
    shift = (x.amax((0, 1)) + x.amin((0, 1))) / 2
    weight = torch.randn(rows, hidden, generator=g) * 0.02
    bias = torch.randn(rows, generator=g) * 0.02
    return x - shift, mask, weight, bias + weight @ shift


print("| shape | scheme | site | candidates | official s | Quell s | ratio | threshold official / Quell | computed |\n|" + "---|" * 9, flush=True)
ratios = []
for shape in args.shapes.split(","):
    batch, length, hidden, heads, ffn = SHAPES[shape]
    for scheme in args.schemes.split(","):
        bits, a_sym, a_quant, a_axis, w_sym, w_axis, a_gran, w_gran, group = SCHEMES[scheme]
        a_config = types.SimpleNamespace(bit=bits, symmetric=a_sym, ch_axis=a_axis, quantizer=a_quant, group_size=group)
        w_config = types.SimpleNamespace(bit=bits, symmetric=w_sym, ch_axis=w_axis, quantizer="Group" if group else "Fixed", group_size=group)
        for kind, rows in (("qkv", 3 * hidden), ("fc1", ffn)):
            x, mask, weight, bias = inputs(shape, rows, len(kind) + bits)
            causal = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
            keys = (1 - mask)[:, None, None, :] * torch.finfo(torch.float32).min
            extra = {"bias": bias, "num_heads": heads, "scaling": (hidden // heads) ** -0.5, "shift": None,
                     "attention_mask": torch.clamp(causal + keys, min=torch.finfo(torch.float32).min), "observation_mask": mask}
            with tempfile.TemporaryDirectory() as d, torch.no_grad():
                file = os.path.join(d, "site.safetensors")
                save_file({"x": x.contiguous(), "mask": mask.to(torch.int32), "weight": weight, "bias": bias}, file)
                command = [args.bench, file, kind, str(bits), str(int(a_sym)), str(int(w_sym)), a_gran, w_gran, str(group), str(heads), "1"]
                before = json.loads(subprocess.run([*command, "1"], capture_output=True, text=True, check=True).stdout)
                start = time.perf_counter()
                migrator = Migrator1DRangeSearch(x, weight, a_config, w_config, kind, extra)
                threshold = migrator.search_migrate_range_1D()[1].item()
                official = time.perf_counter() - start
                after = json.loads(subprocess.run([*command, str(args.rounds)], capture_output=True, text=True, check=True).stdout)
            own = float(numpy.median(before["seconds"] + after["seconds"]))
            ratios.append(official / own)
            same = abs(threshold - after["threshold"]) <= 1e-6 * threshold
            print("| %s | %s | %s | %d | %.2f | %.3f | %.0f | %.6f / %.6f%s | %.0f %% |" % (
                shape, scheme, kind, after["candidates"], official, own, official / own, threshold, after["threshold"],
                "" if same else " DIFFERENT", 100 * after["evaluated"]), flush=True)
print("\nGeometric mean of the ratios: %.0f; %d threads, %s; torch %s." % (
    numpy.exp(numpy.mean(numpy.log(ratios))), torch.get_num_threads(), after["isa"], torch.__version__))
