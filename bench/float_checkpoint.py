#!/usr/bin/env python3
"""Does transformers load what `quell quantize --format float` writes, and compute the same logits?

usage: bench/float_checkpoint.py QUELL_COMMAND MODEL_DIR...     (needs torch, transformers, safetensors)
MODEL_DIR holds a decoder with reference.safetensors (input_ids, attention_mask), as those in tests/golden/models.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file

for directory in sys.argv[2:]:
    reference = load_file(os.path.join(directory, "reference.safetensors"))
    inputs = {k: reference[k].long() for k in ("input_ids", "attention_mask")}
    with tempfile.TemporaryDirectory() as scratch:
        samples, out = os.path.join(scratch, "samples.jsonl"), os.path.join(scratch, "model")
        with open(samples, "w") as f:
            for ids in reference["input_ids"].tolist():
                f.write(json.dumps({"input_ids": ids}) + "\n")
        result = subprocess.run([sys.argv[1], "quantize", directory, out, "--recipe", "os_plus", "--calibration", samples, "--format", "float",
                                 "--quiet"], capture_output=True, text=True)
        if result.returncode:
            print("%-16s %s" % (os.path.basename(directory), result.stderr.strip()))
            continue
        load = transformers.AutoModelForCausalLM.from_pretrained
        model, info = load(out, attn_implementation="eager", output_loading_info=True)
        original = load(directory, attn_implementation="eager")
        changed = sum(not torch.equal(a, b) for a, b in zip(model.state_dict().values(), original.state_dict().values()))
        with torch.no_grad():
            a, b = model(**inputs).logits, original(**inputs).logits
        mask = inputs["attention_mask"].bool()
        print("%-16s largest difference of logits %.1e; %d tensors changed; missing %s, unexpected %s" %
              (os.path.basename(directory), (a - b)[mask].abs().max(), changed, list(info["missing_keys"]), list(info["unexpected_keys"])))
