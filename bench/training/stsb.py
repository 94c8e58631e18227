#!/usr/bin/env python3
"""Ternary MiniLM on STS-B as a cross-encoder: the float model fine-tuned, then students of it by several recipes, with several seeds.

  bench/training/stsb.py QUELL MODEL STSB_DIR WORK_DIR [--seeds 1 2 3] [--recipes kd_qat ternarybert] [--epochs 3] [--threads 1]

Each run appends a line to bench/training/stsb.tsv and is skipped where its line is there; a run that was stopped is taken up where its last
checkpoint lies. The teacher is the float model of the first seed. Spearman x 100 on the development rows (which choose the best epoch) and
on the test rows (which choose nothing), of the integer engine.
"""
import argparse
import json
import pathlib
import subprocess
import time

TABLE = pathlib.Path(__file__).with_suffix(".tsv")
COLUMNS = ["recipe", "seed", "epochs", "learning_rate", "steps", "dev", "test", "share_of_codes", "engine", "processor", "hours"]


def lines():
    return [line.split("\t") for line in TABLE.read_text().splitlines()[1:]] if TABLE.exists() else []


def append(values):
    if not TABLE.exists():
        TABLE.write_text("\t".join(COLUMNS) + "\n")
    with TABLE.open("a") as table:
        table.write("\t".join(str(v) for v in values) + "\n")


def spearman(quell, model, data):
    out = subprocess.run([quell, "eval", model, "--task", "stsb", "--data", data, "--quiet", "--json", "-"], check=True, capture_output=True, text=True)
    return next(r["value"] for r in json.loads(out.stdout)["results"] if r["metric"] == "spearman")


def processor():
    return next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))


def run(args, recipe, seed, epochs, rate, command):
    """One line of the table, where it is not there."""
    if any(line[:4] == [recipe, str(seed), str(epochs), str(rate)] for line in lines()):
        return
    out = args.work / ("%s-%d-%s-%s" % (recipe, seed, epochs, rate))
    begin = time.time()
    if not out.exists():
        subprocess.run([args.quell, *command, out, "--recipe", recipe, "--task", "stsb", "--data", args.data / "sts-train.csv", "--eval-data",
                        args.data / "sts-dev.csv", "--max-seq-length", "64", "--epochs", str(epochs), "--learning-rate", str(rate), "--seed",
                        str(seed), "--threads", str(args.threads), "--checkpoint-every", "30"], check=True)
    notes = json.loads((out / "training/run.json").read_text())
    share = notes.get("deployment", {}).get("share", "-")
    append([recipe, seed, epochs, rate, notes["steps"], "%.2f" % spearman(args.quell, out, args.data / "sts-dev.csv"),
            "%.2f" % spearman(args.quell, out, args.data / "sts-test.csv"), share, "float" if share == "-" else "integer", processor(),
            "%.2f" % ((time.time() - begin) / 3600)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("quell", "model", "data", "work"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--recipes", nargs="+", default=["kd_qat", "ternarybert"])
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--learning-rate", default="5e-05")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    teacher = args.work / ("fine_tune-%d-3-5e-05" % args.seeds[0])
    run(args, "fine_tune", args.seeds[0], "3", "5e-05", ["train", args.model])
    for seed in args.seeds:
        for recipe in args.recipes:
            run(args, recipe, seed, args.epochs, args.learning_rate, ["distill", teacher])
    for seed in args.seeds[1:]:
        run(args, "fine_tune", seed, "3", "5e-05", ["train", args.model])


if __name__ == "__main__":
    main()
