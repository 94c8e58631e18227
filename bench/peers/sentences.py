#!/usr/bin/env python3
"""Sentence embeddings per second from text, tokenizer included: Quell beside ONNX Runtime, OpenVINO, CTranslate2 and PyTorch.

usage: DIR/bin/python bench/peers/sentences.py QUELL MODEL LINES [--rounds 3] [--threads 2] [--isa avx2]

MODEL: a directory with a BERT sentence encoder (all-MiniLM-L6-v2), LINES: a text file. Peers tokenize with Hugging Face's tokenizers, look
embeddings up in NumPy (CTranslate2: itself, with random tables) and get sentences of one length together, up to --batch, so that they need
neither padding nor a mask; what Quell batches has lengths as they come. Medians and best.
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


def read_model(folder):
    from safetensors.numpy import load_file
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    tensors = {name.removeprefix("bert."): value.astype(np.float32) for name, value in load_file(os.path.join(folder, "model.safetensors")).items()}
    names = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "o": "attention.output.dense",
             "f1": "intermediate.dense", "f2": "output.dense", "n1": "attention.output.LayerNorm", "n2": "output.LayerNorm"}

    def pair(prefix):
        return tensors[prefix + ".weight"], tensors[prefix + ".bias"]
    layers = [{own: pair("encoder.layer.%d.%s" % (i, name)) for own, name in names.items()} for i in range(config["num_hidden_layers"])]
    words, positions, kinds = (tensors["embeddings.%s_embeddings.weight" % n] for n in ("word", "position", "token_type"))
    gamma, beta = pair("embeddings.LayerNorm")

    def embed(ids):
        x = words[ids] + positions[:ids.shape[1]] + kinds[0]
        x -= x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * gamma + beta
    return encoders.Encoder(config["hidden_size"], config["num_attention_heads"], layers, config["vocab_size"]), embed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quell")
    parser.add_argument("model")
    parser.add_argument("lines")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--isa", default="")
    parser.add_argument("--schemes", default="f32,W8A8,W8A8 attention,W7A7 attention,W6A6 attention")
    parser.add_argument("--peers", default="onnxruntime,openvino,ctranslate2,torch")
    options = parser.parse_args()
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(options.model, "tokenizer.json"))
    tokenizer.no_padding()
    encoder, embed = read_model(options.model)
    with open(options.lines) as file:
        lines = [line.rstrip("\n") for line in file if line.strip()]
    peers, missing = encoders.make_peers(options.peers, encoder, tempfile.mkdtemp(prefix="quell-peers-"), options.threads)

    def embed_all(run, looks_up):
        by_length = {}
        for e in tokenizer.encode_batch(lines):
            by_length.setdefault(len(e.ids), []).append(e.ids)
        out = []
        for ids in by_length.values():
            for i in range(0, len(ids), options.batch):
                part = ids[i:i + options.batch]
                out.append(run(None if looks_up else embed(np.array(part)), part).mean(1))
        return out

    rates, cpu = {}, ""
    for _ in range(options.rounds):
        for label, _, run in peers:
            start = time.perf_counter()
            embed_all(run, label.startswith("CTranslate2"))
            rates.setdefault(label, []).append(len(lines) / (time.perf_counter() - start))
        for scheme in filter(None, options.schemes.split(",")):
            arguments = [options.quell, "bench", options.model, "--text", options.lines, "-t", str(options.threads), "-r", "1", "-o", "json", "--quiet"]
            arguments += ["--engine", "float"] if scheme == "f32" else ["--engine", "integer", "--scheme", scheme.split()[0]]
            if "attention" in scheme:
                arguments.append("--quantize-attention")
            environment = dict(os.environ, **({"QUELL_ISA": options.isa} if options.isa else {}))
            out = json.loads(subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE).stdout)
            cpu = "%s, Quell on %s" % (out["cpu"], out["isa"])
            rates.setdefault("Quell " + scheme, []).append(out["rows"][0]["per_second"])
        print("a round done", file=sys.stderr)
    best = max(statistics.median(rates[label]) for label, _, _ in peers)
    print("%s, %d threads, %d lines; sentences per second over %d rounds\n" % (cpu, options.threads, len(lines), options.rounds))
    print("| | median / best | against the fastest peer |\n|---|---:|---:|")
    for label, values in rates.items():
        print("| %s | %.1f / %.1f | %.2f |" % (label, statistics.median(values), max(values), statistics.median(values) / best))
    if missing:
        print("\nnot measured: " + "; ".join(missing))


main()
