#!/usr/bin/env python3
"""Convolutional networks in int8: Quell beside ONNX Runtime and OpenVINO, in rounds that interleave them.

usage: DIR/bin/python bench/peers/images.py QUELL MODEL ... [--resnet18] [--batches 1,8] [--rounds 5] [--repeat 5] [--threads 2] [--isa vnni]

MODEL: a directory with a network described op by op (docs/network_description.md) of convolutions, additions, pooling and linears, such as those of
MobileNetV2 and EfficientNet-Lite0; or such a directory, '=', and one that `quell quantize` made of it, which Quell then runs. --resnet18 adds the shape
of ResNet-18 with random weights. From each an ONNX model with folded batch norms is made, and from it one in QDQ form (ranges of 16 images, per tensor;
weights s8 per channel), which ONNX Runtime and OpenVINO run; where nncf is installed, OpenVINO also runs what that makes of the float model. Float
outputs of the peers are compared with the description's, computed by PyTorch in float64, before anything is measured, and int8 peers must run
convolutions in integers.

--isa restricts Quell (QUELL_ISA) and OpenVINO (ONEDNN_MAX_CPU_ISA); ONNX Runtime takes what the processor has.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ISAS = {"avx2": ("avx2", "AVX2"), "avx_vnni": ("avx_vnni", "AVX2_VNNI"), "vnni": ("avx512_vnni", "AVX512_CORE_VNNI"), "amx": ("amx", "AVX512_CORE_AMX")}
CHECKED_IMAGES = 4


def run_quell(options, folder, scheme, batch):
    """Milliseconds a batch, minimum and median of the repetitions, and the ISA. The one place that knows `quell bench`."""
    environment = dict(os.environ, **({"QUELL_ISA": ISAS[options.isa][0]} if options.isa else {}))
    arguments = [options.quell, "bench", folder, "--shape", str(batch), "-t", str(options.threads), "-r", str(options.repeat), "--engine", "integer",
                 "-o", "json", "--quiet"] + (["--scheme", scheme] if scheme else [])
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError("Quell: " + (done.stderr.strip().splitlines() or ["exit code %d" % done.returncode])[-1])
    out = json.loads(done.stdout)
    return [out["rows"][0]["ms_min"], out["rows"][0]["ms_median"]], out["isa"]


def time_peer(run, x, repeat):
    run(x)  # threads awake, memory there
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run(x)
        times.append(1e3 * (time.perf_counter() - start))
    return [min(times), statistics.median(times)]


def check_float(network, runtimes, path):
    x = network.images(CHECKED_IMAGES, 2)
    reference = network.reference(x)
    largest = np.abs(reference).max()
    for runtime in runtimes:
        error = np.abs(runtime.make(path, len(x))(x) - reference).max() / largest
        print("%s, %s: largest difference from the description %.1e of its largest output" % (network.name, runtime.label("fp32"), error), file=sys.stderr)
        if not error < 1e-4:
            sys.exit("%s computes another network than the description of %s" % (runtime.label("fp32"), network.name))
    return x, reference


def int8_peers(networks, network, folder, options):
    """(label, make(batch)), after their float models and their integers have been checked."""
    runtimes = [networks.OnnxRuntime(options.threads), networks.OpenVino(options.threads)]
    paths = networks.write_models(network, folder, options.activations)
    x, reference = check_float(network, runtimes, paths["fp32"])
    models = [(runtime, "qdq", paths["qdq"]) for runtime in runtimes]
    try:
        models.append((runtimes[1], "nncf", networks.nncf_model(network, paths["fp32"])))
    except ImportError:
        print("nncf is not installed: OpenVINO runs the QDQ model only", file=sys.stderr)

    peers = []
    for runtime, kind, model in models:
        integer, every, names = runtime.kernels(model)
        if integer == 0:
            sys.exit("%s runs none of %d convolutions of %s in integers" % (runtime.label(kind), every, network.name))
        y = runtime.make(model, len(x))(x)
        same = (y.argmax(1) == reference.argmax(1)).sum()
        error = np.sqrt(np.square(y - reference).mean() / np.square(reference).mean())
        note = "%s: %d of %d convolutions in integers (%s); error %.3f of the float output's size, %d of %d classes the same" % (
            runtime.label(kind), integer, every, names, error, same, len(x))
        peers.append((runtime.label(kind), lambda batch, r=runtime, m=model: r.make(m, batch), note))
    return peers


def measure(network, quell, peers, batch, options, missing):
    """Times of a batch by label: minima and medians of each round."""
    x = network.images(batch, 3)
    entries = [(label, lambda run=make(batch): time_peer(run, x, options.repeat)) for label, make, _ in peers]
    if options.quell != "none":
        entries.insert(0, ("Quell", lambda: quell(batch)))
    times = {}
    for number in range(options.rounds):
        turn = number % len(entries)  # nobody is always the first
        for label, run in entries[turn:] + entries[:turn]:
            try:
                low, median = run()
            except RuntimeError as error:
                missing["%s, %s" % (network.name, error)] = None  # each said once
                continue
            times.setdefault(label, ([], []))
            times[label][0].append(low / batch)
            times[label][1].append(median / batch)
            time.sleep(0.05)  # threads that spin between runs have stopped
        print("%s, batch %d: round %d done" % (network.name, batch, number + 1), file=sys.stderr)
    return {label: (min(low), statistics.median(median)) for label, (low, median) in times.items()}


def print_table(results, batches):
    print("| network | | " + " | ".join("batch %d" % b for b in batches) + " | " + " | ".join("ratio, batch %d" % b for b in batches) + " |")
    print("|---|---|" + "---:|" * (2 * len(batches)))
    for name, by_batch in results.items():
        for label in dict.fromkeys(label for b in batches for label in by_batch[b]):
            cells, ratios = [], []
            for b in batches:
                own, quell = by_batch[b].get(label), by_batch[b].get("Quell")
                cells.append("%.2f / %.2f" % own if own else "")
                ratios.append("%.2f / %.2f" % (own[0] / quell[0], own[1] / quell[1]) if own and quell and label != "Quell" else "")
            print("| %s | %s | %s |" % (name, label, " | ".join(cells + ratios)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quell", help="the command; none: the peers alone")
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--resnet18", action="store_true")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", choices=sorted(ISAS))
    parser.add_argument("--scheme", default="W8A8", help="that Quell quantizes a float MODEL with")
    parser.add_argument("--activations", choices=["u8", "s8"], default="u8", help="of the QDQ model")
    options = parser.parse_args()
    if options.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = ISAS[options.isa][1]  # oneDNN reads it when it is loaded
    import networks

    batches, results, notes, missing = [int(b) for b in options.batches.split(",")], {}, [], {}
    with tempfile.TemporaryDirectory(prefix="quell-peers-") as scratch:
        jobs = [(networks.Network.read(model.split("=")[0]), model) for model in options.models]
        if options.resnet18:
            folder = os.path.join(scratch, "resnet18")
            jobs.append((networks.Network.resnet18(folder), folder))
        for number, (network, model) in enumerate(jobs):
            own = os.path.join(scratch, str(number))
            os.makedirs(own)
            peers = int8_peers(networks, network, own, options)
            notes += ["%s, %s" % (network.name, note) for _, _, note in peers]
            isas = set()

            def quell(batch, folder=model.split("=")[-1], scheme="" if "=" in model else options.scheme, isas=isas):
                times, isa = run_quell(options, folder, scheme, batch)
                isas.add(isa)
                return times

            results[network.name] = {batch: measure(network, quell, peers, batch, options, missing) for batch in batches}
            notes += ["%s, Quell on %s" % (network.name, isa) for isa in isas]

    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown processor")
    print("%s, %d threads, %s; ms an image, minimum / median over %d rounds of %d; ratios: times of Quell's\n" % (
        cpu, options.threads, "restricted to %s but for ONNX Runtime" % options.isa if options.isa else "all instructions", options.rounds, options.repeat))
    print_table(results, batches)
    print("\n" + "\n".join("- " + note for note in notes))
    if missing:
        print("\nnot measured: " + "; ".join(missing))


main()
