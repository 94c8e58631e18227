#!/usr/bin/env python3
"""Accuracy tables of docs/accuracy.md: what the integer engine makes of every model, recipe and scheme.

usage: bench/accuracy.py QUELL_COMMAND DATA_DIR RESULTS.json [--models minilm,probes,...] [--recipes a,b] [--schemes W8A8,...]
                         [--activations static,token] [--engine integer] [--print]
DATA_DIR holds models/ and data/ (public models: all-MiniLM-L6-v2 with linear probes, rxnmapper-albert, stories260K, babyllama-tok105;
STS-B, SST-2, MRPC, CoLA, TinyStories). Results that RESULTS.json holds already are not measured again, so that a run can be cut off
and go on. --print: only print the tables of RESULTS.json, as Markdown.
"""
import argparse
import json
import os
import subprocess
import tempfile

STATIC_ONLY = {"os_plus_standard", "outlier_suppression", "os_plus_clipping", "peg", "best_fast"}  # they quantize attention, or choose static steps
TOKEN_ONLY = {"rtn_group32", "os_plus_group"}  # steps at run time, by token or group
NO_BIAS = {"os_plus_corrected"}  # corrects biases, of which the LLaMA models have none

parser = argparse.ArgumentParser()
parser.add_argument("quell")
parser.add_argument("data")
parser.add_argument("results")
parser.add_argument("--models", default="stories260K,babyllama-tok105,stories260K-text,minilm,rxnmapper-albert,probes")
parser.add_argument("--recipes", default="minmax,smoothquant,peg,peg_folded,outlier_suppression,os_plus,os_plus_standard,os_plus_clipping,"
                    "os_plus_explicit,os_plus_corrected,os_plus_gptq,os_plus_adaround,best,best_fast,rtn_group32,os_plus_group")
parser.add_argument("--schemes", default="W8A8,W6A6,W4A4")
parser.add_argument("--activations", default="static,token", help="static: one step a tensor; token: steps at run time")
parser.add_argument("--engine", default="integer", choices=["integer", "simulated", "simulated-exact"])
parser.add_argument("--print", action="store_true")
args = parser.parse_args()

GLUE = os.path.join(args.data, "data", "glue")
STS = os.path.join(GLUE, "STS-B")
MINILM = os.path.join(args.data, "models", "minilm-l6")


class DoesNotApply(Exception):
    pass


def quell(*command):
    result = subprocess.run([args.quell, *command, "--quiet", "--json", "-"], capture_output=True, text=True)
    if "does not divide" in result.stderr:  # groups
        raise DoesNotApply(result.stderr.strip())
    if result.returncode:
        raise SystemExit("%s failed: %s" % (" ".join(command), result.stderr))
    return {r["metric"]: r["value"] for r in json.loads(result.stdout).get("results", []) if r["engine"] != "float"}


def quantize(model, out, recipe, scheme, *calibration):
    quell("quantize", model, out, "--recipe", recipe, "--scheme", scheme, "--sampling", "first", "--calibration", *calibration)


def evaluate(out, *task):
    return quell("eval", out, "--engine", args.engine, *task)


def with_activations(recipe, kind, folder):
    """The recipe, or a copy of it with a step a token, without the passes that only static quantizers have."""
    if kind == "static" or recipe in TOKEN_ONLY:
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


def quantize_minilm(recipe, scheme, out):
    quantize(MINILM, out, recipe, scheme, os.path.join(STS, "sts-train.csv"), "--text-column", "6", "--num-samples", "128")


def minilm(recipe, scheme, out):
    quantize_minilm(recipe, scheme, out)
    columns = ["--task", "sts", "--text-column", "6,7", "--label-column", "5"]
    dev = evaluate(out, *columns, "--data", os.path.join(STS, "sts-dev.csv"))
    test = evaluate(out, *columns, "--data", os.path.join(STS, "sts-test.csv"), "--reference", MINILM)
    return {"dev": dev["spearman"], "test": test["spearman"], "mean": test["cosine_mean"], "min": test["cosine_min"]}


PROBES = {"sst2": ("SST-2/alps_test.tsv", "accuracy"), "mrpc": ("MRPC/dev.tsv", "accuracy"), "cola": ("CoLA/dev.tsv", "matthews")}


def probes(recipe, scheme, out):
    quantize_minilm(recipe, scheme, out)
    values = {}
    for task, (file, metric) in PROBES.items():
        r = evaluate(out, "--reference", MINILM, "--task", task, "--data", os.path.join(GLUE, file), "--probe",
                     os.path.join(MINILM, "heads", task + ".safetensors"), "--max-seq-length", "256")
        values[task], values[task + "_same"] = r[metric], r["top1_agreement"]
    return values


def language_model(name):
    def run(recipe, scheme, out):
        model = os.path.join(args.data, "models", name)
        ids = os.path.join(model, "tinystories_eval_ids.u16")
        quantize(model, out, recipe, scheme, ids, "--calibration-skip", "120", "--num-samples", "16", "--max-seq-length", "256")
        return evaluate(out, "--reference", model, "--task", "perplexity", "--data", ids, "--protocol", "windows", "--window", "256",
                        "--limit", "120")
    return run


def stories_from_text(recipe, scheme, out):
    model = os.path.join(args.data, "models", "stories260K")
    text = os.path.join(args.data, "data", "text", "tinystories_sample_2MB.txt")
    quantize(model, out, recipe, scheme, text, "--calibration-skip", "3000", "--num-samples", "64")
    return evaluate(out, "--reference", model, "--task", "perplexity", "--data", text, "--protocol", "gptq", "--window", "256",
                    "--limit", "120")


def masked_lm(recipe, scheme, out):
    model = os.path.join(args.data, "models", "rxnmapper-albert")
    quantize(model, out, recipe, scheme, os.path.join(model, "calibration.safetensors"), "--num-samples", "32")
    return evaluate(out, "--reference", model, "--task", "masked-lm", "--data", os.path.join(model, "eval_masked.safetensors"))


LM_COLUMNS = {"perplexity": "%(perplexity).4f", "KL": "%(kl).4f", "same top-1, %%": "%(top1_agreement).2f"}
MODELS = {
    "minilm": (minilm, {"dev / test": "%(dev).2f / %(test).2f", "cosine mean / min": "%(mean).4f / %(min).4f"}),
    "stories260K": (language_model("stories260K"), LM_COLUMNS),
    "babyllama-tok105": (language_model("babyllama-tok105"), LM_COLUMNS),
    "stories260K-text": (stories_from_text, LM_COLUMNS),
    "rxnmapper-albert": (masked_lm, {"masked tokens, %%": "%(accuracy).2f", "perplexity": "%(perplexity).4f", "KL": "%(kl).4f"}),
    "probes": (probes, {"SST-2 / same": "%(sst2).2f / %(sst2_same).2f", "MRPC / same": "%(mrpc).2f / %(mrpc_same).2f",
                        "CoLA / same": "%(cola).2f / %(cola_same).2f"}),
}
RECIPES, SCHEMES = args.recipes.split(","), args.schemes.split(",")


def applies(model, recipe, kind):
    if recipe in NO_BIAS and (model.startswith("stories") or model.startswith("baby")):
        return False
    return not (kind == "token" and recipe in STATIC_ONLY) and not (kind == "static" and recipe in TOKEN_ONLY)


results = {}
if os.path.exists(args.results):
    with open(args.results) as f:
        results = json.load(f)


def key(*parts):
    return " ".join(parts if args.engine == "integer" else (*parts, args.engine))


for model in [] if args.print else args.models.split(","):
    for scheme in SCHEMES:
        for recipe in RECIPES:
            for kind in args.activations.split(","):
                cell = key(model, recipe, scheme, kind)
                if cell in results or not applies(model, recipe, kind):
                    continue
                try:
                    with tempfile.TemporaryDirectory() as out:
                        results[cell] = MODELS[model][0](with_activations(recipe, kind, out), scheme, os.path.join(out, "model"))
                except DoesNotApply as why:
                    print(cell, why, flush=True)
                    continue
                print(cell, results[cell], flush=True)
                with open(args.results + ".new", "w") as f:
                    json.dump(results, f, indent=1)
                os.replace(args.results + ".new", args.results)

for model in args.models.split(",") if args.print else []:
    columns = MODELS[model][1]
    heads = [name.replace("%%", "%") for name in columns]
    print("\n### %s\n\n| scheme | recipe | %s | %s |\n|%s" % (
        model, " | ".join("static: " + h if i == 0 else h for i, h in enumerate(heads)),
        " | ".join("per token: " + h if i == 0 else h for i, h in enumerate(heads)), "---|" * (2 + 2 * len(columns))))
    for scheme in SCHEMES:
        for recipe in RECIPES:
            cells, any_cell = [], False
            for kind in ("static", "token"):
                found = results.get(key(model, recipe, scheme, kind))
                any_cell |= found is not None
                cells += [c % found if found else "" for c in columns.values()]
            if any_cell:
                print("| %s | %s | %s |" % (scheme, recipe, " | ".join(cells)))
