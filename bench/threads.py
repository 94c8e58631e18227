#!/usr/bin/env python3
"""How well threads bear company: tokens per second of one thread and of several, alone and beside one busy process.

usage: bench/threads.py build/release/bin/quell [--against OLDER_QUELL] [--rounds 5] [--threads 2]

Generation with a random model of the 110M LLaMA shape, W8A8 with its head. One call of `quell bench` runs both numbers of threads in
turn; binaries take turns within a round. Medians of the rounds' medians, and of the rounds' best runs, which say more about an
otherwise idle machine than medians where it is not idle. Everything else that runs on the machine disturbs too, so leave it alone.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

# Ends with its parent, however that ends.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1000000): pass"


def measure(binary, threads, tokens, repeat):
    """{threads: (median, best) tokens per second}"""
    command = [binary, "--quiet", "bench", "--random", "llama-110m", "--engine", "integer", "--scheme", "W8A8", "--quantize-lm-head",
               "-n", str(tokens), "-t", f"1,{threads}", "-r", str(repeat), "-o", "json"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    rates = {row["threads"]: (row["per_second"], tokens * 1e3 / row["ms_min"]) for row in report["rows"]}
    return report["cpu"] + ", " + report["isa"], rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quell")
    parser.add_argument("--against", help="another binary, measured in turn with the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=9)
    args = parser.parse_args()

    binaries = [args.quell] + ([args.against] if args.against else [])
    results = {}  # (binary, disturbed, threads) -> [(median, best)]
    machine = ""
    for _ in range(args.rounds):
        for disturbed in (False, True):
            for binary in binaries:
                busy = subprocess.Popen([sys.executable, "-c", BUSY]) if disturbed else None
                try:
                    machine, rates = measure(binary, args.threads, args.tokens, args.repeat)
                finally:
                    if busy:
                        busy.kill()
                        busy.wait()
                told = ", ".join(f"{t} threads {r[0]:.1f} ({r[1]:.1f})" for t, r in rates.items())
                print(f"{binary}, {'disturbed' if disturbed else 'alone'}: {told}", file=sys.stderr, flush=True)
                for threads, rate in rates.items():
                    results.setdefault((binary, disturbed, threads), []).append(rate)

    def rate(binary, disturbed, threads, kind):
        return statistics.median(r[kind] for r in results[binary, disturbed, threads])

    print(f"{machine}, {os.cpu_count()} processors, {args.rounds} rounds; tokens per second, median (best)\n")
    print(f"| binary | company | 1 thread | {args.threads} threads | {args.threads} against 1 |\n|---|---|---:|---:|---:|")
    for binary in binaries:
        for disturbed in (False, True):
            cells = [f"{rate(binary, disturbed, t, 0):.1f} ({rate(binary, disturbed, t, 1):.1f})" for t in (1, args.threads)]
            ratios = [rate(binary, disturbed, args.threads, k) / rate(binary, disturbed, 1, k) for k in (0, 1)]
            company = "one busy process" if disturbed else "none"
            print(f"| {binary} | {company} | {cells[0]} | {cells[1]} | {ratios[0]:.2f} ({ratios[1]:.2f}) |")
    if args.against:
        for threads in (1, args.threads):
            ratios = [rate(args.quell, False, threads, k) / rate(args.against, False, threads, k) for k in (0, 1)]
            print(f"\nundisturbed, {threads} thread(s), first binary against second: {ratios[0]:.3f} ({ratios[1]:.3f})")


if __name__ == "__main__":
    main()
