#!/usr/bin/env python3
"""How clips of a low-bit language model start (QuantGPT's study): a small GPT on Penn Treebank, whose students differ in nothing else.

  bench/training/initialisation.py QUELL PTB_DIR WORK_DIR [--seeds 1 2 3] [--bits 2 4] [--steps 300] [--threads 2]

The float model (GPT-2's graph, 4 layers, width 128, all 10,000 words, 2.1 M parameters) is trained here from random weights; the epoch with
the best validation perplexity is kept. PTB_DIR holds ptb.train.txt, ptb.valid.txt and ptb.test.txt. Each run appends a line to
bench/training/initialisation.tsv and is skipped where its line is there. Perplexity by word, end of sentence included, on windows of 128.
"""
import argparse
import json
import pathlib

from experiment import Quell, Table, arguments, share_of_codes

TABLE = Table(pathlib.Path(__file__).with_suffix(".tsv"), ["clip", "bits", "seed", "steps"], ["validation", "test", "share_of_codes"])
WINDOW = 128
CLIPS = {
    "pact-2.5": "pact: {granularity: tensor, bits: %d, start: 2.5}",
    "pact-max": "pact: {granularity: tensor, bits: %d, start: max}",
    "pact-mean": "pact: {granularity: tensor, bits: %d, start: mean}",
    "dynscale-1": "dynscale: {granularity: tensor, bits: %d, start: 1}",
    "dynscale-least-error": "dynscale: {granularity: tensor, bits: %d, start: least_error}",
}
RECIPE = """name: {name}
quantizers:
  weights: {{{weights}}}
  embeddings: {{{weights}}}
  head: {{dynamic: {{granularity: token, bits: 8}}}}
  activations: {{dynamic: {{granularity: token, bits: 8}}}}
objective:
  - logits: {{kind: soft_cross_entropy}}
training:
  optimizer: adamw
  learning_rate: 5.0e-4
  quantizer_learning_rate: 1
  weight_decay: 0
  decay: linear
  warmup: 0
  steps: {steps}
  batch_size: 16
  max_seq_length: 128
  dropout: 0.1
"""
FLOAT = """name: ptb_float
objective: [labels]
training: {optimizer: adamw, learning_rate: 2.0e-3, weight_decay: 0.1, warmup: 0.05, decay: cosine, epochs: 5, batch_size: 16, max_seq_length: 128, dropout: 0.1}
"""


def write_model_directory(directory, text):
    """config.json and a tokenizer of whole words, for random weights."""
    words = sorted(set(text.split()) | {"<eos>", "<unk>"})
    vocabulary = {word: i for i, word in enumerate(words)}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}}))
    (directory / "config.json").write_text(json.dumps({
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": len(words), "n_embd": 128, "n_layer": 4, "n_head": 4,
        "n_positions": WINDOW, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "initializer_range": 0.02,
        "bos_token_id": vocabulary["<eos>"], "eos_token_id": vocabulary["<eos>"], "tie_word_embeddings": True}))


def with_ends(source, target):
    """Penn Treebank has a sentence a line; its end is a word."""
    target.write_text("".join(line.strip() + " <eos> " for line in source.read_text().splitlines() if line.strip()))
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--steps", type=int, default=300)
    args = arguments(parser, "data")
    quell = Quell(args.quell, args.threads)

    train, valid, test = [with_ends(args.data / ("ptb.%s.txt" % name), args.work / (name + ".txt")) for name in ("train", "valid", "test")]
    write_model_directory(args.work / "start", train.read_text())
    data = ["--task", "causal-lm", "--data", train, "--eval-data", valid]
    recipe = args.work / "float.yaml"
    recipe.write_text(FLOAT)
    teacher = args.work / "float"

    def add_line(key, out, notes, hours):
        scores = ["%.2f" % quell.metrics(out, "perplexity", file, "--window", WINDOW)["perplexity"] for file in (valid, test)]
        TABLE.append(key, [*scores, share_of_codes(notes)], hours)

    if not TABLE.has(["float", 32, 0, "-"]):
        notes, hours = quell.train("train", args.work / "start", teacher, "--config", "--recipe", recipe, *data)
        add_line(["float", 32, 0, "-"], teacher, notes, hours)
    for seed in args.seeds:
        for bits in args.bits:
            for clip, weights in CLIPS.items():
                key = [clip, bits, seed, args.steps]
                if TABLE.has(key):
                    continue
                name = "%s-%d-%d-%d" % tuple(key)
                recipe = args.work / (name + ".yaml")
                recipe.write_text(RECIPE.format(name=name, weights=weights % bits, steps=args.steps))
                notes, hours = quell.train("distill", teacher, args.work / name, "--recipe", recipe, *data, "--seed", seed)
                add_line(key, args.work / name, notes, hours)


if __name__ == "__main__":
    main()
