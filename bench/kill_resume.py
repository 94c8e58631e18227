#!/usr/bin/env python3
"""Stops `quell quantize` at random moments until it is done, again and again, and compares the bytes with an undisturbed run.

usage: bench/kill_resume.py QUELL_COMMAND MODEL CALIBRATION [--kills 100] [--recipe os_plus] [further options of quantize ...]
Every round starts the same command, ends it (SIGKILL, SIGTERM or SIGINT, which is Ctrl-C) after a random share of the undisturbed run's time, and starts it again; after
--kills-per-round kills it may finish, with another number of threads each time. Exits with 1 at the first difference.
"""
import argparse
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("quell")
parser.add_argument("model")
parser.add_argument("calibration")
parser.add_argument("--kills", type=int, default=100)
parser.add_argument("--kills-per-round", type=int, default=2)
parser.add_argument("--recipe", default="os_plus")
args, extra = parser.parse_known_args()
random.seed(1)


def command(out, threads):
    return [args.quell, "quantize", args.model, out, "--recipe", args.recipe, "--calibration", args.calibration, "--threads", str(threads),
            "--quiet", *extra]


def content(directory):
    return {name: open(os.path.join(directory, name), "rb").read() for name in sorted(os.listdir(directory))}


with tempfile.TemporaryDirectory() as d:
    start = time.monotonic()
    subprocess.run(command(os.path.join(d, "whole"), 2), check=True)
    whole = time.monotonic() - start
    want = content(os.path.join(d, "whole"))
    kills = late = resumed = clipping = 0
    while kills < args.kills:
        out = os.path.join(d, "out")
        for _ in range(args.kills_per_round):
            process = subprocess.Popen(command(out, random.choice([1, 2, 3])))
            time.sleep(random.uniform(0, whole))
            sent = random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            process.send_signal(sent)
            killed = process.wait() == -sent
            kills += killed
            if not killed or os.path.exists(out):
                late += 1
                break
            journal = os.listdir(out + ".journal") if os.path.exists(out + ".journal") else []
            resumed += any(f.endswith(".safetensors") for f in journal)
            clipping += any(f.endswith(".note") for f in journal)
        if not os.path.exists(out):
            subprocess.run(command(out, random.choice([1, 2, 3])), check=True)
        if content(out) != want:
            raise SystemExit("a resumed run differs from an undisturbed one after %d kills" % kills)
        shutil.rmtree(out)
        shutil.rmtree(out + ".journal", ignore_errors=True)
        left = [f for f in os.listdir(d) if f not in ("whole", ".out.quell-lock")]  # a lock's file may stay, the next run takes it
        if left:
            print("left behind:", left)
            for f in left:
                shutil.rmtree(os.path.join(d, f), ignore_errors=True)
    print("%d stops of a run of %.1f s; %d left plans to go on with, %d of them losses of a clipping, %d runs were done before; every result "
          "has the same bytes" % (kills, whole, resumed, clipping, late))
