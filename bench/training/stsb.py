#!/usr/bin/env python3
"""Ternary MiniLM on STS-B as a cross-encoder: the float model fine-tuned, then students of it by several recipes, with several seeds.

  bench/training/stsb.py QUELL MODEL STSB_DIR WORK_DIR [--seeds 1 2 3] [--recipes kd-qat ternarybert bitnet] [--epochs 3] [--threads 2]

Each run appends a line to bench/training/stsb.tsv and is skipped where its line is there; a run that was stopped is taken up where its last
checkpoint lies. The teacher is the float model of the first seed. Spearman x 100 on the development rows (which choose the best epoch) and
on the test rows (which choose nothing); of students in the integer engine.
"""
import argparse
import pathlib

from experiment import Quell, Table, arguments, share_of_codes

TABLE = Table(pathlib.Path(__file__).with_suffix(".tsv"), ["recipe", "seed", "epochs", "learning_rate"], ["steps", "dev", "test", "share_of_codes"])
FLOAT = ("3", "5e-05")  # epochs and learning rate of the float model
# The built-in recipe trains from random weights on text; this has its quantizers, and the steps and the schedule of the others.
BITNET = """name: bitnet_of_numbers
quantizers:
  weights: {absmean: {granularity: tensor}}
  embeddings: {absmean: {granularity: row}}
  activations: {dynamic: {granularity: token, bits: 8}}
objective:
  - labels
  - logits: {kind: mse}
training: {optimizer: bert_adam, weight_decay: 0.01, clip_gradients: each_tensor, clip_norm: 1, warmup: 0.1, decay: linear, batch_size: 32, dropout: 0.1}
"""


def recipe_of(name, work):
    """What --recipe takes."""
    if name != "bitnet":
        return name
    file = work / "bitnet.yaml"
    file.write_text(BITNET)
    return file


def run(args, quell, subcommand, source, recipe, seed, epochs, rate):
    """One line of the table. Returns the model."""
    out = args.work / ("%s-%d-%s-%s" % (recipe, seed, epochs, rate))
    if TABLE.has([recipe, seed, epochs, rate]):
        return out
    notes, hours = quell.train(subcommand, source, out, "--recipe", recipe_of(recipe, args.work), "--task", "stsb", "--data", args.data / "sts-train.csv", "--eval-data",
                               args.data / "sts-dev.csv", "--max-seq-length", 64, "--epochs", epochs, "--learning-rate", rate, "--seed", seed)
    scores = ["%.2f" % quell.metrics(out, "stsb", args.data / name)["spearman"] for name in ("sts-dev.csv", "sts-test.csv")]
    TABLE.append([recipe, seed, epochs, rate], [notes["steps"], *scores, share_of_codes(notes)], hours)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["kd-qat", "ternarybert", "bitnet"])
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--learning-rate", default="5e-05")
    args = arguments(parser, "model", "data")
    quell = Quell(args.quell, args.threads)

    teacher = run(args, quell, "train", args.model, "fine-tune", args.seeds[0], *FLOAT)
    for seed in args.seeds:
        for recipe in args.recipes:
            run(args, quell, "distill", teacher, recipe, seed, args.epochs, args.learning_rate)
    for seed in args.seeds[1:]:
        run(args, quell, "train", args.model, "fine-tune", seed, *FLOAT)


if __name__ == "__main__":
    main()
