#!/usr/bin/env python3
"""Kills training runs at random moments (SIGKILL), starts each again, and compares all bytes in the end with a run that was not killed.

  bench/training/kills.py QUELL [--kills 100] [--seed 1]

The student is a ternary one of the classifier that ships with the project; checkpoint intervals of 1, 3 and 7 steps take turns. Prints a
line a kill, and ends with exit code 1 where a result differs.
"""
import argparse
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

REVIEWS = pathlib.Path(__file__).resolve().parent.parent.parent / "examples/reviews"
FILES = ["model.safetensors", "config.json", "training/metrics.jsonl", "training/run.json"]


def command(quell, out, every):
    return [quell, "distill", REVIEWS / "model-plain", out, "--recipe", "kd-qat", "--task", "classification", "--data", REVIEWS / "calibration.tsv",
            "--eval-data", REVIEWS / "eval.tsv", "--eval-limit", "40", "--eval-every", "5", "--steps", "20", "--batch-size", "8", "--threads", "1",
            "--checkpoint-every", str(every), "--quiet"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quell")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)

    with tempfile.TemporaryDirectory() as scratch:
        whole = pathlib.Path(scratch) / "whole"
        begin = time.time()
        subprocess.run(command(args.quell, whole, 7), check=True, stdout=subprocess.DEVNULL)
        length = time.time() - begin
        kills = differing = 0
        while kills < args.kills:
            out = pathlib.Path(scratch) / ("run%d" % kills)
            every = (1, 3, 7)[kills % 3]
            process = subprocess.Popen(command(args.quell, out, every), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(draw.uniform(0, length))
            process.send_signal(signal.SIGKILL)
            if process.wait() == 0 or out.exists():
                subprocess.run(["rm", "-rf", out], check=True)
                continue  # it had ended: that was no kill
            kills += 1
            checkpoint = out.with_name(out.name + ".training") / "checkpoint.safetensors"
            state = "with a checkpoint" if checkpoint.exists() else "before the first checkpoint"
            subprocess.run(command(args.quell, out, every), check=True, stdout=subprocess.DEVNULL)
            same = all((whole / f).read_bytes() == (out / f).read_bytes() for f in FILES)
            differing += not same
            print("kill %d, %s, checkpoints every %d steps: %s" % (kills, state, every, "the same bytes" if same else "OTHER BYTES"), flush=True)
            subprocess.run(["rm", "-rf", out], check=True)
        print("%d kills, %d results with other bytes" % (kills, differing))
        sys.exit(differing > 0)


if __name__ == "__main__":
    main()
