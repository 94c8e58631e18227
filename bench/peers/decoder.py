#!/usr/bin/env python3
"""110M LLaMA shape with random weights: Quell beside llama.cpp and CTranslate2, prompt and generation, in rounds that interleave them.

usage: DIR/bin/python bench/peers/decoder.py QUELL [--prompt 512] [--generate 128] [--rounds 3] [--threads 2] [--isa avx2]

12 layers, hidden 768, 12 heads, 2048 inside, 32000 tokens; the language-model head has the bits of the other weights everywhere. Tokens per
second, median and best. A peer that cannot be imported or run is left out and named.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

LAYERS, HIDDEN, HEADS, INNER, VOCABULARY = 12, 768, 12, 2048, 32000
SHAPES = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (HIDDEN, HIDDEN), "attn_v": (HIDDEN, HIDDEN), "attn_output": (HIDDEN, HIDDEN),
          "ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}


def weights(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, dtype=np.float32) * 0.02 for name, shape in SHAPES.items()}


def embedding():
    return np.random.default_rng(999).standard_normal((VOCABULARY, HIDDEN), dtype=np.float32) * 0.02


def llamacpp_peers(folder, options):
    import gguf
    import llama_cpp
    version = llama_cpp.__version__
    ids = [int(t) for t in np.random.default_rng(7).integers(3, VOCABULARY, options.prompt)]
    for name, kind in (("Q8_0", gguf.GGMLQuantizationType.Q8_0), ("Q4_0", gguf.GGMLQuantizationType.Q4_0)):
        path = os.path.join(folder, name + ".gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_context_length(2048)
        writer.add_embedding_length(HIDDEN)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(INNER)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(HIDDEN // HEADS)
        writer.add_vocab_size(VOCABULARY)
        writer.add_tokenizer_model("llama")
        writer.add_token_list(["<unk>", "<s>", "</s>"] + ["t%d" % i for i in range(VOCABULARY - 3)])
        writer.add_token_scores([0.0] * VOCABULARY)
        writer.add_token_types([2, 3, 3] + [1] * (VOCABULARY - 3))

        def add(tensor, data, kind=kind, writer=writer):
            writer.add_tensor(tensor, gguf.quants.quantize(data, kind), raw_dtype=kind)
        add("token_embd.weight", embedding())
        writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
        for i in range(LAYERS):
            for tensor, data in weights(i).items():
                add("blk.%d.%s.weight" % (i, tensor), data)
            for norm in ("attn_norm", "ffn_norm"):
                writer.add_tensor("blk.%d.%s.weight" % (i, norm), np.ones(HIDDEN, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            model = llama_cpp.Llama(path, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=options.threads, n_threads_batch=options.threads,
                                    verbose=False)

        def prompt(model=model):
            model.reset()
            start = time.perf_counter()
            model.eval(ids)
            return options.prompt / (time.perf_counter() - start)

        def generate(model=model):
            model.reset()
            model.eval(ids[:1])
            start = time.perf_counter()
            for i in range(options.generate):
                model.eval(ids[i % len(ids):i % len(ids) + 1])
            return options.generate / (time.perf_counter() - start)
        yield "llama.cpp (llama-cpp-python %s) %s" % (version, name), name, prompt, generate


def ctranslate2_peers(folder, options):
    import ctranslate2
    from ctranslate2.specs import common_spec, transformer_spec
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(LAYERS, HEADS, activation=common_spec.Activation.SWISH, pre_norm=True,
                                                                    ffn_glu=True, rms_norm=True, rotary_dim=0, rotary_interleave=False)
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = embedding()
    decoder.projection.weight = embedding()
    decoder.layer_norm.gamma = np.ones(HIDDEN, np.float32)
    for i, layer in enumerate(decoder.layer):
        own = weights(i)
        layer.self_attention.linear[0].weight = np.concatenate([own["attn_q"], own["attn_k"], own["attn_v"]])
        layer.self_attention.linear[1].weight = own["attn_output"]
        layer.ffn.linear_0.weight, layer.ffn.linear_0_noact.weight = own["ffn_gate"], own["ffn_up"]
        layer.ffn.linear_1.weight = own["ffn_down"]
        layer.self_attention.layer_norm.gamma = layer.ffn.layer_norm.gamma = np.ones(HIDDEN, np.float32)
    spec.register_vocabulary(["<unk>", "<s>", "</s>"] + ["t%d" % i for i in range(VOCABULARY - 3)])
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "<unk>", "<s>", "</s>"
    spec.config.layer_norm_epsilon = 1e-5
    spec.validate()
    path = os.path.join(folder, "ct2")
    os.makedirs(path)
    spec.save(path)
    tokens = ["t%d" % t for t in np.random.default_rng(7).integers(0, VOCABULARY - 3, options.prompt)]
    generator = ctranslate2.Generator(path, device="cpu", compute_type="int8", intra_threads=options.threads)

    def run(first, count):
        generator.generate_batch([first], max_length=count, min_length=count, sampling_topk=1, include_prompt_in_result=False)

    def prompt():
        start = time.perf_counter()
        run(tokens, 1)
        return options.prompt / (time.perf_counter() - start)

    def generate():
        start = time.perf_counter()
        run(tokens[:1], options.generate)
        return options.generate / (time.perf_counter() - start)
    yield "CTranslate2 %s int8" % ctranslate2.__version__, "int8", prompt, generate


QUELL_SCHEMES = {"W8A8": ["--scheme", "W8A8", "--quantize-lm-head"],
                 "W8A8 per-token": ["--recipe", "minmax_dynamic", "--quantize-lm-head"],
                 "W7A7": ["--scheme", "W7A7", "--quantize-lm-head"],
                 "W6A6": ["--scheme", "W6A6", "--quantize-lm-head"],
                 "W4A8 g32 per-token": ["--recipe", "rtn_group32"]}


def run_quell(scheme, options):
    environment = dict(os.environ, **({"QUELL_ISA": options.isa} if options.isa else {}))
    command = [options.quell, "bench", "--random", "llama-110m", "-p", str(options.prompt), "-n", str(options.generate), "-t", str(options.threads),
               "-r", str(options.repeat), "-o", "json", "--quiet", "--engine", "integer"] + QUELL_SCHEMES[scheme]
    out = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    return "%s, Quell on %s" % (out["cpu"], out["isa"]), [row["per_second"] for row in out["rows"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quell")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="")
    parser.add_argument("--schemes", default=",".join(QUELL_SCHEMES))
    options = parser.parse_args()
    folder, peers, missing = tempfile.mkdtemp(prefix="quell-peers-"), [], []
    for name, maker in (("llama.cpp", llamacpp_peers), ("CTranslate2", ctranslate2_peers)):
        try:
            peers += list(maker(folder, options))
        except Exception as error:  # a peer that does not run here must not stop the others
            missing.append("%s (%s)" % (name, str(error).splitlines()[0] if str(error) else type(error).__name__))
    rates, cpu = {}, ""
    for _, _, prompt, generate in peers:
        prompt(), generate()
    for _ in range(options.rounds):
        for label, _, prompt, generate in peers:
            for _ in range(options.repeat):
                for test, run in (("prompt", prompt), ("generate", generate)):
                    rates.setdefault((label, test), []).append(run())
        for scheme in filter(None, options.schemes.split(",")):
            cpu, values = run_quell(scheme, options)
            for test, value in zip(("prompt", "generate"), values):
                rates.setdefault(("Quell " + scheme, test), []).append(value)
        print("a round done", file=sys.stderr)
    print("%s, %d threads; tokens per second, median / best over %d rounds\n" % (cpu, options.threads, options.rounds))
    print("| | prompt %d | generate %d |\n|---|---:|---:|" % (options.prompt, options.generate))
    for label in dict.fromkeys(label for label, _ in rates):
        print("| %s | %s |" % (label, " | ".join("%.1f / %.1f" % (statistics.median(rates[label, t]), max(rates[label, t])) for t in ("prompt", "generate"))))
    print("\n| Quell is faster by | against | prompt | generate |\n|---|---|---:|---:|")
    for scheme in filter(None, options.schemes.split(",")):
        for label, kind, _, _ in peers:
            if (kind == "Q4_0") == scheme.startswith("W4"):
                print("| Quell %s | %s | %s |" % (scheme, label, " | ".join(
                    "%.2f" % (statistics.median(rates["Quell " + scheme, t]) / statistics.median(rates[label, t])) for t in ("prompt", "generate"))))
    if missing:
        print("\nnot measured: " + "; ".join(missing))


main()
