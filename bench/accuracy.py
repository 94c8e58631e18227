#!/usr/bin/env python3
"""Accuracy tables of docs/accuracy.md: float, simulated and integer results of every recipe and scheme.

usage: bench/accuracy.py QUELL_COMMAND DATA_DIR [--only minilm,probes,rxnmapper-albert,...] [--recipes a,b] [--schemes W8A8,...]
                         [--activations static,token]
DATA_DIR holds models/ and data/ (public models: all-MiniLM-L6-v2 with linear probes, rxnmapper-albert, stories260K, babyllama-tok105;
STS-B, SST-2, MRPC, CoLA, TinyStories).
Prints Markdown and, with --json FILE, keeps the numbers.
"""
import argparse
import json
import os
import subprocess
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("quell")
parser.add_argument("data")
parser.add_argument("--only", default="minilm,probes,rxnmapper-albert,stories260K,stories260K-text,babyllama-tok105")
parser.add_argument("--recipes", default="minmax,smoothquant,os_plus")
parser.add_argument("--schemes", default="W8A8,W7A8,W6A6,W4A4")
parser.add_argument("--activations", default="static", help="static: one step a tensor; token: a step a token, at run time")
parser.add_argument("--json")
args = parser.parse_args()
STS = os.path.join(args.data, "data", "glue", "STS-B")
numbers = []


def quell(*command):
    result = subprocess.run([args.quell, *command, "--quiet", "--json", "-"], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit("%s failed: %s" % (" ".join(command), result.stderr))
    return {(r["engine"], r["metric"]): r["value"] for r in json.loads(result.stdout)["results"]}


def with_activations(recipe, kind, folder):
    """The recipe, or a copy of it with a step a token, without the passes that only static quantizers have."""
    if kind == "static":
        return recipe
    text = subprocess.run([args.quell, "recipes", recipe], capture_output=True, text=True, check=True).stdout
    lines = []
    for line in text.splitlines():
        if line.startswith("activations:"):
            line = "activations: {symmetric: false, granularity: token, dynamic: true}"
        if "token_wise_clipping" not in line:
            lines.append(line)
    path = os.path.join(folder, recipe + ".yaml")
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")
    return path


def minilm(recipe, scheme, out):
    model = os.path.join(args.data, "models", "minilm-l6")
    columns = ["--label-column", "5"]
    dev = quell("quantize", model, out, "--recipe", recipe, "--scheme", scheme, "--calibration", os.path.join(STS, "sts-train.csv"),
                "--text-column", "6", "--num-samples", "128", "--sampling", "first", "--eval-task", "sts", "--eval-text-column", "6,7",
                "--eval-data", os.path.join(STS, "sts-dev.csv"), *columns)
    test = {}
    for engine in ("simulated", "integer"):
        extra = ["--reference", model] if engine == "integer" else []
        test.update(quell("eval", out, "--engine", engine, "--task", "sts", "--data", os.path.join(STS, "sts-test.csv"), "--text-column",
                          "6,7", *columns, *extra))
    cells = []
    for engine in ("simulated", "integer"):
        cells += ["%.2f / %.2f" % (dev[engine, "spearman"], test[engine, "spearman"])]
    cells += ["%.4f / %.4f" % (test["integer", "cosine_mean"], test["integer", "cosine_min"])]
    return cells, {"dev": {" ".join(k): v for k, v in dev.items()}, "test": {" ".join(k): v for k, v in test.items()}}


def language_model(name):
    def run(recipe, scheme, out):
        model = os.path.join(args.data, "models", name)
        ids = os.path.join(model, "tinystories_eval_ids.u16")
        r = quell("quantize", model, out, "--recipe", recipe, "--scheme", scheme, "--calibration", ids, "--calibration-skip", "120",
                  "--num-samples", "16", "--sampling", "first", "--max-seq-length", "256", "--eval-task", "perplexity", "--eval-data", ids,
                  "--protocol", "windows", "--window", "256", "--limit", "120")
        return ["%.4f" % r["simulated", "perplexity"], "%.4f" % r["integer", "perplexity"],
                "%.4f" % r["integer", "kl"], "%.2f" % r["integer", "top1_agreement"]], {" ".join(k): v for k, v in r.items()}
    return run


PROBES = {"sst2": ("SST-2/alps_test.tsv", "accuracy"), "mrpc": ("MRPC/dev.tsv", "accuracy"), "cola": ("CoLA/dev.tsv", "matthews")}


def probes(recipe, scheme, out):
    model = os.path.join(args.data, "models", "minilm-l6")
    quell("quantize", model, out, "--recipe", recipe, "--scheme", scheme, "--calibration", os.path.join(STS, "sts-train.csv"),
          "--text-column", "6", "--num-samples", "128", "--sampling", "first")
    cells, raw = [], {}
    for task, (file, metric) in PROBES.items():
        data = os.path.join(args.data, "data", "glue", file)
        options = ["--task", task, "--data", data, "--probe", os.path.join(model, "heads", task + ".safetensors"), "--max-seq-length", "256"]
        r = quell("eval", out, "--reference", model, *options)
        raw.update({task + " " + " ".join(k): v for k, v in r.items()})
        cells.append("%.2f / %.2f" % (r["integer", metric], r["integer", "top1_agreement"]))
    return cells, raw


def masked_lm(recipe, scheme, out):
    model = os.path.join(args.data, "models", "rxnmapper-albert")
    r = quell("quantize", model, out, "--recipe", recipe, "--scheme", scheme, "--calibration", os.path.join(model, "calibration.safetensors"),
              "--num-samples", "32", "--sampling", "first", "--eval-task", "masked-lm", "--eval-data",
              os.path.join(model, "eval_masked.safetensors"))
    return (["%.2f / %.4f" % (r[engine, "accuracy"], r[engine, "perplexity"]) for engine in ("float", "simulated", "integer")] +
            ["%.4f" % r["integer", "kl"]], {" ".join(k): v for k, v in r.items()})


def stories_from_text(recipe, scheme, out):
    model = os.path.join(args.data, "models", "stories260K")
    text = os.path.join(args.data, "data", "text", "tinystories_sample_2MB.txt")
    r = quell("quantize", model, out, "--recipe", recipe, "--scheme", scheme, "--calibration", text, "--calibration-skip", "3000",
              "--num-samples", "64", "--sampling", "first", "--eval-task", "perplexity", "--eval-data", text, "--protocol", "gptq",
              "--window", "256", "--limit", "120")
    return (["%.4f" % r[engine, "perplexity"] for engine in ("float", "simulated", "integer")] +
            ["%.4f" % r["integer", "kl"], "%.2f" % r["integer", "top1_agreement"]], {" ".join(k): v for k, v in r.items()})


STATIC_ONLY = {"os_plus_standard", "outlier_suppression", "os_plus_clipping"}  # they quantize attention, or only choose static ranges
JOBS = {
    "probes": (probes, "| recipe | scheme | SST-2 accuracy / same label | MRPC accuracy / same label | CoLA MCC / same label |", 5),
    "rxnmapper-albert": (masked_lm, "| recipe | scheme | float: masked tokens, % / perplexity | simulated | integer | KL (integer) |", 6),
    "stories260K-text": (stories_from_text, "| recipe | scheme | float perplexity | simulated | integer | KL (integer) | same top-1, % |", 7),
    "minilm": (minilm, "| recipe | scheme | simulated dev / test | integer dev / test | cosine mean / min (test, integer) |", 5),
    "stories260K": (language_model("stories260K"), "| recipe | scheme | simulated perplexity | integer perplexity | KL | same top-1, % |", 6),
    "babyllama-tok105": (language_model("babyllama-tok105"), "| recipe | scheme | simulated perplexity | integer perplexity | KL | same top-1, % |", 6),
}
for name in args.only.split(","):
    run, header, columns = JOBS[name]
    print("\n### %s\n\n%s\n|%s" % (name, header, "---|" * columns), flush=True)
    for scheme in args.schemes.split(","):
        for kind in args.activations.split(","):
            for recipe in args.recipes.split(","):
                if kind == "token" and recipe in STATIC_ONLY:
                    continue
                with tempfile.TemporaryDirectory() as out:
                    cells, raw = run(with_activations(recipe, kind, out), scheme, os.path.join(out, "model"))
                numbers.append({"model": name, "recipe": recipe, "scheme": scheme, "activations": kind, "values": raw})
                label = recipe if kind == "static" else recipe + ", per token"
                print("| %s | %s | %s |" % (label, scheme, " | ".join(cells)), flush=True)
                if args.json:
                    with open(args.json, "w") as f:
                        json.dump(numbers, f, indent=1)
