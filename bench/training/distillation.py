#!/usr/bin/env python3
"""What a ternary MiniLM gains from each loss (the grid of KD-QAT), and a shallow one from contrasts (ACKD), on four tasks of GLUE.

  bench/training/distillation.py QUELL MODEL GLUE_DIR WORK_DIR [--study grid|ackd] [--tasks rte cola mrpc sst2] [--seeds 1 2 3] [--steps 300]

Each run appends a line to bench/training/distillation.tsv and is skipped where its line is there. All students of a task take equal steps
and start from the same float model, which is fine-tuned here; SST-2 is cut to its first 8,000 rows. The score is the task's (Matthews x 100
of CoLA, else accuracy) on the development rows, in the integer engine for ternary students; ranking loss and cover length are those of the
last evaluation.
"""
import argparse
import pathlib

from experiment import Quell, Table, arguments, last_diagnostics

TABLE = Table(pathlib.Path(__file__).with_suffix(".tsv"), ["study", "task", "objective", "seed", "steps"], ["score", "ranking_loss", "cover_length"])
FILES = {"rte": ("RTE/rte_train.tsv", "RTE/rte_dev.tsv"), "cola": ("CoLA/in_domain_train.tsv", "CoLA/dev.tsv"), "mrpc": ("MRPC/train.tsv", "MRPC/dev.tsv"),
         "sst2": ("SST-2/alps_train.tsv", "SST-2/alps_test.tsv")}
ROWS = 8000
QUANTIZERS = """quantizers:
  weights: {twn: {granularity: tensor, clip: 2.5}}
  embeddings: {twn: {granularity: row, clip: 2.5}}
  activations: {dynamic: {granularity: token, bits: 8}}
"""
LOGITS = "  - logits: {kind: soft_cross_entropy}\n"
GRID = {
    "logits": LOGITS,
    "hidden": LOGITS + "  - hidden_states\n",
    "score": LOGITS + "  - hidden_states\n  - attention_scores\n",
    "map": LOGITS + "  - hidden_states\n  - attention_maps\n",
    "output": LOGITS + "  - hidden_states\n  - attention_outputs\n",
    "map+output": LOGITS + "  - hidden_states\n  - attention_maps\n  - attention_outputs\n",
}
KL = "  - logits: {kind: kl, temperature: 4, weight: 0.5}\n"
CONTRAST = "  - sample_contrastive: {weight: 0.1, width: 128, pooling: mean, temperature: 0.1, reweighting_temperature: %s}\n"
ACKD = {
    "labels": "  - labels\n",
    "logits": "  - labels: {weight: 0.5}\n" + KL,
    "contrast": "  - labels: {weight: 0.5}\n" + KL + CONTRAST % "none",
    "reweighted": "  - labels: {weight: 0.5}\n" + KL + CONTRAST % "0.1",
}
TRAINING = """training: {{optimizer: bert_adam, learning_rate: 5.0e-5, weight_decay: 0.01, clip_gradients: each_tensor, clip_norm: 1, warmup: 0.1, decay: linear,
  steps: {steps}, batch_size: 32, max_seq_length: 64, dropout: 0.1, eval_every: {every}}}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=["grid", "ackd"], default="grid")
    parser.add_argument("--tasks", nargs="+", default=list(FILES))
    parser.add_argument("--steps", type=int, default=300)
    args = arguments(parser, "model", "data")
    quell = Quell(args.quell, args.threads)
    studies = {"grid": (QUANTIZERS, GRID, []), "ackd": ("", ACKD, ["--layers", "3"])}
    quantizers, objectives, options = studies[args.study]

    for task in args.tasks:
        train, dev = [args.data / file for file in FILES[task]]
        data = ["--task", task, "--data", train, "--eval-data", dev, "--limit", ROWS]
        metric = "matthews" if task == "cola" else "accuracy"

        def add_line(key, out, hours):
            seen = last_diagnostics(out)
            find = lambda name: next(("%.4f" % v for k, v in seen.items() if k.endswith(name)), "-")
            score = "%.2f" % quell.metrics(out, task, dev)[metric]
            TABLE.append(key, [score, find("ranking_loss"), find("cover_length")], hours)

        teacher = args.work / ("teacher-" + task)
        key = ["float", task, "labels", 1, "-"]
        if not TABLE.has(key):
            _, hours = quell.train("train", args.model, teacher, *data, "--max-seq-length", 64, "--seed", 1)
            add_line(key, teacher, hours)
        for seed in args.seeds:
            for name, terms in objectives.items():
                key = [args.study, task, name, seed, args.steps]
                if TABLE.has(key):
                    continue
                recipe = args.work / ("%s-%s.yaml" % (args.study, name))
                recipe.write_text("name: %s\n" % name + quantizers + "objective:\n" + terms +
                                  TRAINING.format(steps=args.steps, every=max(1, args.steps // 3)))
                out = args.work / ("%s-%s-%s-%d-%d" % tuple(key))
                _, hours = quell.train("distill", teacher, out, "--recipe", recipe, *data, *options, "--diagnostics", "--seed", seed)
                add_line(key, out, hours)


if __name__ == "__main__":
    main()
