#!/usr/bin/env python3
"""BERT-base shape with random weights: Quell beside ONNX Runtime, OpenVINO, CTranslate2 and PyTorch, in rounds that interleave them.

usage: DIR/bin/python bench/peers/encoder.py QUELL [--shapes 1x128,8x128,32x128] [--rounds 3] [--repeat 3] [--threads 2] [--isa avx2]

Every peer computes the same encoder (12 layers, hidden 768, 12 heads, 3072) from hidden states; Quell also looks up embeddings and pools.
Prints one Markdown table of medians and minima, with versions and processor. A peer that cannot be imported or run is left out and named.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import encoders

HIDDEN = 768


def run_quell(command, isa, scheme, shape, threads, repeat):
    environment = dict(os.environ, **({"QUELL_ISA": isa} if isa else {}))
    arguments = [command, "bench", "--random", "bert-base", "--shape", shape, "-t", str(threads), "-r", str(repeat), "-o", "json", "--quiet"]
    arguments += ["--engine", "float"] if scheme == "f32" else ["--engine", "integer", "--scheme", scheme.split()[0]]
    if "attention" in scheme:
        arguments.append("--quantize-attention")
    if "per-token" in scheme:
        arguments += ["--recipe", "minmax_dynamic"]
    out = json.loads(subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    return out, [row["ms_min"] for row in out["rows"]], [row["ms_median"] for row in out["rows"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quell")
    parser.add_argument("--shapes", default="1x128,8x128,32x128")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="")
    parser.add_argument("--schemes", default="f32,W8A8,W8A8 attention,W8A8 per-token")
    parser.add_argument("--peers", default="onnxruntime,openvino,ctranslate2,torch")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="quell-peers-")
    peers, missing = encoders.make_peers(options.peers, encoders.Encoder.random(12, HIDDEN, 12, 3072), folder, options.threads)
    schemes = [s for s in options.schemes.split(",") if s]
    times, cpu = {}, ""
    for shape in options.shapes.split(","):
        batch, length = map(int, shape.split("x"))
        rng = np.random.default_rng(1)
        x, ids = rng.standard_normal((batch, length, HIDDEN), dtype=np.float32), rng.integers(0, 30522, (batch, length)).tolist()
        for _, _, run in peers:
            run(x, ids)
        for _ in range(options.rounds):
            for label, _, run in peers:
                for _ in range(options.repeat):
                    start = time.perf_counter()
                    run(x, ids)
                    times.setdefault((label, shape), []).append(1e3 * (time.perf_counter() - start))
            for scheme in schemes:
                out, low, median = run_quell(options.quell, options.isa, scheme, shape, options.threads, options.repeat)
                cpu = "%s, Quell on %s" % (out["cpu"], out["isa"])
                times.setdefault(("Quell " + scheme, shape), []).extend(low + median)
            print("%s: a round done" % shape, file=sys.stderr)
    shapes = options.shapes.split(",")
    print("%s, %d threads; ms, median / min over %d rounds\n" % (cpu, options.threads, options.rounds))
    print("| | " + " | ".join(shapes) + " |\n|---|" + "---:|" * len(shapes))
    for label in dict.fromkeys(label for label, _ in times):
        print("| %s | %s |" % (label, " | ".join("%.1f / %.1f" % (statistics.median(times[label, s]), min(times[label, s])) for s in shapes)))

    def best(labels, shape):
        return min(statistics.median(times[label, shape]) for label in labels)
    ort8 = [label for label, int8, _ in peers if int8 and label.startswith("ONNX Runtime")]
    ort32 = [label for label, int8, _ in peers if not int8 and label.startswith("ONNX Runtime")]
    all8 = [label for label, int8, _ in peers if int8]
    print("\n| Quell is faster by | against | " + " | ".join(shapes) + " |\n|---|---|" + "---:|" * len(shapes))
    for scheme in schemes:
        own = "Quell " + scheme
        rows = [("ONNX Runtime int8, its best", ort8), ("the best int8 of all peers", all8), ("ONNX Runtime f32", ort32),
                ("Quell per-token", ["Quell W8A8 per-token"] if "W8A8 per-token" in schemes else [])]
        for name, labels in rows:
            if labels and labels != [own]:
                print("| %s | %s | %s |" % (own, name, " | ".join(
                    "%.2f" % (best(labels, s) / statistics.median(times[own, s])) for s in shapes)))
    if missing:
        print("\nnot measured: " + "; ".join(missing))


main()
