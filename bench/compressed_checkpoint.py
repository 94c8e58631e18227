#!/usr/bin/env python3
"""Does transformers with compressed-tensors load what `quell quantize` writes, and compute the same?

usage: bench/compressed_checkpoint.py [--recipes R,R] [--schemes S,S] [--rows N] QUELL_COMMAND MODEL_DIR...
(needs torch, transformers, compressed-tensors, safetensors)

Each model is quantized and read by transformers. Short sequences of random tokens then run through it one by one. At every quantized
linear the codes that compressed-tensors makes of its input are compared with those that Quell's rule (docs/numerics.md) makes of the
same input; a code that differs is a flip. Outputs of the sequences without a flip, and without an input so near to a tie that other
roundings in front of it may move it, are compared with those of Quell's engine `simulated-exact`.
Files that only Quell reads must be refused by transformers with an error. Exit code 1 where anything is not as it should be.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings

os.environ["TQDM_DISABLE"] = "1"

import torch
import transformers
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")
torch.set_num_threads(1)

OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state", "pooler_output")


def quell_codes(x, args, scale, zero_point):
    """Codes by Quell's rule less the zero point, how far x / scale is from a tie, and x / scale."""
    bits = args.num_bits
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    ratio = x * (1.0 / scale)
    codes = torch.clamp(torch.round(ratio) + zero_point, low, high) - zero_point
    inside = (ratio + zero_point > low - 1) & (ratio + zero_point < high + 1)
    tie = torch.where(inside, (ratio - torch.floor(ratio) - 0.5).abs(), torch.ones_like(ratio))
    return codes, tie, ratio


def quell_steps(x, args):
    """Dynamic steps as docs/numerics.md has them: one a token, or a group of a token's channels."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    levels = (1 << args.num_bits) - 1
    if args.symmetric:
        scale = torch.maximum(-low, high) / (levels / 2)
        return scale.clamp(min=1e-8), torch.zeros_like(scale)
    scale = ((high - low) / levels).clamp(min=2.0**-23)
    zero = torch.clamp(-torch.round(low / scale), 0, levels)
    return scale, zero - (1 << (args.num_bits - 1))


class Watch:
    """Compares codes at the input of every quantized linear."""

    def __init__(self, model, near):
        self.near = near
        self.codes = self.flips = 0
        self.worst_flip = self.worst_tie = 0.0
        self.row_is_clean = True
        self.linears = 0
        for module in model.modules():
            scheme = getattr(module, "quantization_scheme", None)
            if scheme is None or scheme.input_activations is None:
                continue
            self.linears += 1
            module.register_forward_pre_hook(self.look)

    def look(self, module, inputs):
        x, args = inputs[0].float(), module.quantization_scheme.input_activations
        if args.dynamic:
            scale, zero = compute_dynamic_scales_and_zp(x, args, module)
            own = x.unflatten(-1, (-1, args.group_size)) if args.strategy == "group" else x
            own_scale, own_zero = quell_steps(own, args)
        else:
            scale, zero = module.input_scale, getattr(module, "input_zero_point", torch.zeros(1))
            own, own_scale, own_zero = x, scale, zero.float()
        theirs = quantize(x, scale, zero, args)
        if args.strategy == "group":
            theirs = theirs.unflatten(-1, (-1, args.group_size))
            zero = zero.unsqueeze(-1)
        ours, tie, ratio = quell_codes(own, args, own_scale, own_zero)
        difference = (theirs - zero.float() - ours).abs()
        flips = difference > 0
        self.codes += flips.numel()
        self.flips += int(flips.sum())
        self.worst_flip = max(self.worst_flip, difference.max().item())
        if flips.any():
            self.worst_tie = max(self.worst_tie, tie[flips].max().item())
        # What roundings in front of a code can move: a part of the largest values that were added up, and of its own.
        if flips.any() or (tie < self.near + 1e-6 * ratio.abs()).any():
            self.row_is_clean = False
        if args.dynamic and not args.symmetric:  # a zero point that moves clips the other end
            low = own.amin(-1, keepdim=True).clamp(max=0) / own_scale
            if ((low - torch.floor(low) - 0.5).abs() < self.near + 1e-6 * low.abs()).any():
                self.row_is_clean = False


def outputs_of(model, inputs):
    with torch.no_grad():
        result = model(**inputs)
    return {k: result[k].float().contiguous() for k in OUTPUTS if k in result and result[k] is not None}


def random_rows(config, rows, length):
    generator = torch.Generator().manual_seed(1)
    special = {config.get(k) for k in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")}
    ids = [i for i in range(min(config["vocab_size"], 30000)) if i not in special]
    pick = lambda: torch.tensor([ids[i] for i in torch.randint(len(ids), (length,), generator=generator)])[None]
    result = []
    for _ in range(rows):
        row = {"input_ids": pick()}
        if config["architectures"][0] == "BartForSequenceClassification":
            row["input_ids"][0, -1] = config["eos_token_id"]
        elif config.get("is_encoder_decoder"):
            row["decoder_input_ids"] = pick()
        result.append(row)
    return result


def check(quell, directory, recipe, scheme, rows, length, near, group, scratch):
    out, samples = os.path.join(scratch, "model"), os.path.join(scratch, "samples.jsonl")
    config = json.load(open(os.path.join(directory, "config.json")))
    if not config.get("architectures"):
        return "config.json names no class to load it with", True
    with open(samples, "w") as f:
        for row in random_rows(config, 96, 8)[-64:]:
            f.write(json.dumps({"input_ids": row["input_ids"][0].tolist()}) + "\n")
    if recipe == "rtn_group32" and group:  # models whose columns 32 does not divide
        text = subprocess.run([quell, "recipes", recipe], capture_output=True, text=True).stdout
        recipe = os.path.join(scratch, "recipe.yaml")
        with open(recipe, "w") as f:
            f.write(text.replace("group_size: 32", "group_size: %d" % group))
    command = [quell, "quantize", directory, out, "--recipe", recipe, "--calibration", samples, "--force", "--quiet"]
    result = subprocess.run(command + (["--scheme", scheme] if scheme else []), capture_output=True, text=True)
    if result.returncode:
        last = result.stderr.strip().splitlines()[-1]
        return "not quantized: " + last, "does not divide" in last or "is tied to the embedding" in last
    quantization = json.load(open(os.path.join(out, "config.json")))["quantization_config"]
    load = getattr(transformers, config["architectures"][0]).from_pretrained
    try:
        model, info = load(out, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    except Exception as error:
        line = str(error).strip().splitlines()
        refused = quantization["format"].startswith("quell")
        return ("only Quell reads it; transformers stops: " if refused else "DOES NOT LOAD: ") + " ".join(line[:3])[:110], refused
    if quantization["format"].startswith("quell"):
        return "LOADS, BUT MUST NOT (%s)" % quantization["format"], False
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    model.eval()
    sequences = random_rows(config, rows, length)
    outputs_of(model, sequences[0])  # the first run makes weights of codes
    watch, recorded, clean = Watch(model, near), {}, set()
    for i, inputs in enumerate(sequences):
        watch.row_is_clean = True
        outputs = outputs_of(model, inputs)
        if watch.row_is_clean:
            clean.add(i)
        for key, value in list(inputs.items()) + list(outputs.items()):
            recorded["%d.%s" % (i, key)] = value.int() if value.dtype == torch.long else value
    reference = os.path.join(scratch, "reference.safetensors")
    save_file(recorded, reference)
    verify = subprocess.run([quell, "verify", out, reference, "--engine", "simulated-exact", "--tolerance", "1e-4", "--json", "-", "--quiet"],
                            capture_output=True, text=True)
    if not verify.stdout.startswith("{"):
        return "verify: " + verify.stderr.strip(), False
    result = json.loads(verify.stdout)["tensors"]
    if all(row["passed"] for row in result):  # then nothing moved, however near to a tie
        clean = set(range(rows))
    worst = {True: 0.0, False: 0.0}
    failed = 0
    for row in result:
        is_clean = int(row["tensor"].split(".")[0]) in clean
        worst[is_clean] = max(worst[is_clean], row["max_difference"])
        failed += is_clean and not row["passed"]
    share = watch.flips / max(1, watch.codes)
    good = not missing and not unexpected and not failed and clean and share <= 1e-4 and watch.worst_flip <= 1 and watch.worst_tie < 1e-4
    text = "%s, %d linears, %d of %d codes flip (%.0e, by %d, %.0e of a step from a tie); %d of %d sequences without: %.1e, others %.1e" % (
        quantization["format"], watch.linears, watch.flips, watch.codes, share, watch.worst_flip, watch.worst_tie, len(clean), rows,
        worst[True], worst[False])
    if missing or unexpected:
        text += "; MISSING %s, UNEXPECTED %s" % (missing[:3], unexpected[:3])
    return text, bool(good)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipes", default="minmax,os_plus,minmax_dynamic,rtn_group32")
    parser.add_argument("--schemes", default="")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=5, help="tokens of a sequence: fewer where so many codes leave none without a flip")
    parser.add_argument("--near", type=float, default=3e-5, help="steps from a tie that roundings in front of a code may move it, at least")
    parser.add_argument("--group", type=int, help="size of the groups of rtn_group32, for models whose columns 32 does not divide")
    parser.add_argument("quell")
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    bad = 0
    for directory in args.models:
        for recipe in args.recipes.split(","):
            for scheme in args.schemes.split(","):
                with tempfile.TemporaryDirectory() as scratch:
                    text, good = check(args.quell, directory, recipe, scheme, args.rows, args.length, args.near, args.group, scratch)
                bad += not good
                print("%-18s %-14s %-5s %s %s" % (os.path.basename(os.path.normpath(directory)), recipe, scheme, "ok " if good else "BAD", text),
                      flush=True)
    sys.exit(1 if bad else 0)


main()
