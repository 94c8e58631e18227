#!/usr/bin/env python3
"""The threshold search of OS+ beside the official implementation: same inputs, same machine, same number of threads, in turns.

usage: bench/os_plus_search.py QUELL_SEARCH_BENCH OFFICIAL_DIR [--shapes bert,opt-125m,opt-1.3b] [--schemes int8,int6,int6_token,int4_group] [--races exact,sampled]
OFFICIAL_DIR: a checkout of ModelTC/Outlier_Suppression_Plus (3ba97ae). Needs torch, numpy, scipy, safetensors and transformers, the
last only because the official package imports it. Inputs are random with outlier channels as language models have them. Prints
Markdown: seconds, their ratios, the shares of all rows x candidates that the races computed, and the thresholds that are chosen.
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
parser.add_argument("--races", default="exact,sampled")
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


RACES = args.races.split(",")
ratios = {race: [] for race in RACES}
print("| shape | scheme | site | candidates | official, s | %s | threshold |\n|%s" % (
    " | ".join("%s, s | ratio | computed" % race for race in RACES), "---|" * (6 + 3 * len(RACES))), flush=True)
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
                own = {race: [] for race in RACES}

                def measure():
                    for race in RACES:
                        run = subprocess.run([*command, str(args.rounds), race], capture_output=True, text=True, check=True)
                        own[race].append(json.loads(run.stdout))

                measure()
                start = time.perf_counter()
                migrator = Migrator1DRangeSearch(x, weight, a_config, w_config, kind, extra)
                threshold = migrator.search_migrate_range_1D()[1].item()
                official = time.perf_counter() - start
                measure()
            cells = []
            for race in RACES:
                seconds = float(numpy.median(own[race][0]["seconds"] + own[race][1]["seconds"]))
                ratios[race].append(official / seconds)
                cells += ["%.3f" % seconds, "%.0f" % ratios[race][-1], "%.0f %%" % (100 * own[race][0]["evaluated"])]
            found = [own[race][0]["threshold"] for race in RACES]
            same = all(abs(threshold - t) <= 1e-6 * threshold for t in found)
            any_run = own[RACES[0]][0]
            print("| %s | %s | %s | %d | %.2f | %s | %s |" % (
                shape, scheme, kind, any_run["candidates"], official, " | ".join(cells),
                "%.6f" % threshold if same else "DIFFERENT: official %.6f, %s" % (threshold, found)), flush=True)
for race in RACES:
    print("\n%s: geometric mean of the ratios %.1f; single linears (fc1) %.1f, attention (qkv) %.1f." % (
        race, *(numpy.exp(numpy.mean(numpy.log(r))) for r in (ratios[race], ratios[race][1::2], ratios[race][0::2]))))
print("\n%d threads, %s; torch %s." % (torch.get_num_threads(), any_run["isa"], torch.__version__))
