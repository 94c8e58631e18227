#!/usr/bin/env python3
"""Speed of tokenizers on one core, beside the Hugging Face library, and time on hostile lines.

usage: bench/tokenizer_speed.py QUELL_COMMAND TEXT_FILE TOKENIZER_DIR... [--megabytes 20] [--hostile]
TOKENIZER_DIR holds tokenizer.json, or vocab.json and merges.txt. Needs the Python package `tokenizers` for the comparison; without it only
Quell is measured. Both sides read the same lines and write ids as JSON; loading is measured on an empty file and subtracted.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("quell")
parser.add_argument("text")
parser.add_argument("tokenizers", nargs="+")
parser.add_argument("--megabytes", type=float, default=20)
parser.add_argument("--hostile", action="store_true")
parser.add_argument("--hf-worker", help=argparse.SUPPRESS)
args = parser.parse_args()

if args.hf_worker:  # tokenizes standard input as a process of its own
    import tokenizers
    directory = args.tokenizers[0]
    path = os.path.join(directory, "tokenizer.json")
    if os.path.exists(path):
        t = tokenizers.Tokenizer.from_file(path)
    else:
        t = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(os.path.join(directory, "vocab.json"), os.path.join(directory, "merges.txt")))
        t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        t.decoder = tokenizers.decoders.ByteLevel()
    t.no_truncation()
    t.no_padding()
    for line in sys.stdin:
        line = line.rstrip("\n")
        if args.hf_worker == "encode":
            print(json.dumps(t.encode(line).ids, separators=(",", ":")))
        else:
            print(t.decode(json.loads(line)))
    sys.exit(0)


def seconds(command, path, output=os.devnull):
    best = 1e9
    for _ in range(3):
        start = time.perf_counter()
        with open(path, encoding="utf-8") as stdin, open(output, "w") as stdout:
            subprocess.run(command, stdin=stdin, stdout=stdout, check=True, env=dict(os.environ, TOKENIZERS_PARALLELISM="false"))
        best = min(best, time.perf_counter() - start)
    return best


def quell_command(action, directory):
    return [args.quell, action, directory]


def hf_command(action, directory):
    return [sys.executable, __file__, args.quell, args.text, directory, "--hf-worker", action]


with tempfile.TemporaryDirectory() as scratch:
    text = open(args.text, encoding="utf-8").read()
    big, empty, ids = (os.path.join(scratch, n) for n in ("big.txt", "empty.txt", "ids.txt"))
    size = int(args.megabytes * 1e6)
    with open(big, "w", encoding="utf-8") as f:
        written = 0
        while written < size:
            part = text[:size - written]
            f.write(part)
            written += len(part.encode())
    open(empty, "w").close()
    megabytes = os.path.getsize(big) / 1e6
    try:
        import tokenizers  # noqa: F401
        have_hf = True
    except ImportError:
        have_hf = False
    print("| tokenizer | encode MB/s | tokenizers | ratio | decode MB/s | tokenizers | ratio |\n|---|---|---|---|---|---|---|")
    for directory in args.tokenizers:
        cells = []
        for action, hf_action, source in (("tokenize", "encode", big), ("detokenize", "decode", ids)):
            if action == "detokenize":
                seconds(quell_command("tokenize", directory), big, ids)
            ours = megabytes / (seconds(quell_command(action, directory), source) - seconds(quell_command(action, directory), empty))
            cells.append("%.1f" % ours)
            if have_hf:
                theirs = megabytes / (seconds(hf_command(hf_action, directory), source) - seconds(hf_command(hf_action, directory), empty))
                cells += ["%.1f" % theirs, "%.1f" % (ours / theirs)]
            else:
                cells += ["-", "-"]
        print("| %s | %s |" % (os.path.basename(os.path.normpath(directory)), " | ".join(cells)), flush=True)
    if args.hostile:
        print("\nSeconds for one line of 2.5, 5 and 10 MB:\n\n| tokenizer | letters | spaces | combining accents |\n|---|---|---|---|")
        for directory in args.tokenizers:
            start = seconds(quell_command("tokenize", directory), empty)
            cells = []
            for unit in ("a", " ", "\u0301\u0323"):
                times = []
                for length in (2.5e6, 5e6, 10e6):
                    with open(big, "w", encoding="utf-8") as f:
                        f.write(unit * int(length / len(unit.encode())) + "\n")
                    times.append("%.2f" % (seconds(quell_command("tokenize", directory), big) - start))
                cells.append(" ".join(times))
            print("| %s | %s |" % (os.path.basename(os.path.normpath(directory)), " | ".join(cells)), flush=True)
