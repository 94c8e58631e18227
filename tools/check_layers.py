#!/usr/bin/env python3
"""Fails when a folder of quell/ includes a higher one, or another of its own level (docs/architecture.md)."""
import pathlib
import re
import sys

LEVELS = {"base": 0, "tensor": 1, "kernels": 1, "io": 2, "ops": 2, "text": 3, "vision": 3, "quant": 3, "graph": 4, "model": 5, "engine": 6,
          "compress": 7, "eval": 7, "exporting": 7, "train": 7, "job": 8, "train_job": 9, "cli": 9, "train_cli": 10}
# Narrower than the level: these folders see only what is listed.
ONLY = {"base": {"base"}, "tensor": {"base", "tensor"}, "kernels": {"base", "kernels"}, "cli": {"base", "job", "cli"}}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"](quell/([a-z_]+)/[^>"]+|torch/[^>"]+)[>"]', re.M)
ROOT = pathlib.Path(__file__).resolve().parent.parent

bad = 0
for path in sorted((ROOT / "quell").rglob("*")):
    if path.suffix not in (".h", ".cpp"):
        continue
    folder = path.relative_to(ROOT / "quell").parts[0]
    if folder not in LEVELS:
        print("%s: folder %s has no level" % (path.relative_to(ROOT), folder))
        bad += 1
        continue
    for match in INCLUDE.finditer(path.read_text(encoding="utf-8")):
        target = match.group(2)
        if target is None:
            wrong = folder != "train"
        elif target == folder:
            wrong = False
        elif path.stem.endswith("_test"):
            wrong = LEVELS[target] > LEVELS[folder]
        elif folder in ONLY:
            wrong = target not in ONLY[folder]
        else:
            wrong = LEVELS[target] >= LEVELS[folder]
        if wrong:
            print("%s: %s must not include %s" % (path.relative_to(ROOT), folder, match.group(1)))
            bad += 1
sys.exit(1 if bad else 0)
