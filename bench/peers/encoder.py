#!/usr/bin/env python3
"""BERT-base shape with random weights: Quell beside ONNX Runtime, OpenVINO, CTranslate2 and PyTorch, in rounds that interleave them.

usage: DIR/bin/python bench/peers/encoder.py QUELL [--shapes 1x128,8x128,32x128] [--rounds 3] [--repeat 3] [--threads 2] [--isa avx2]

Every peer computes the same encoder (12 layers, hidden 768, 12 heads, 3072) from hidden states; Quell also looks up embeddings and pools.
Prints one Markdown table of medians and minima, with versions and processor. A peer that cannot be imported or run is left out and named.
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

LAYERS, HIDDEN, HEADS, INNER = 12, 768, 12, 3072


class Weights:
    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.layers = [
            {name: (self.rng.standard_normal((rows, cols), dtype=np.float32) * 0.02, self.rng.standard_normal(rows, dtype=np.float32) * 0.01)
             for name, rows, cols in (("q", HIDDEN, HIDDEN), ("k", HIDDEN, HIDDEN), ("v", HIDDEN, HIDDEN), ("o", HIDDEN, HIDDEN),
                                      ("f1", INNER, HIDDEN), ("f2", HIDDEN, INNER))} for _ in range(LAYERS)]


def write_onnx(weights, kind, path):
    """kind: fp32, dynamic (DynamicQuantizeLinear + MatMulInteger) or qdq (static u8 activations, s8 weights per channel)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    nodes, initializers, quantized = [], [], {}

    def constant(name, value):
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(op, inputs, outputs=1, **attributes):
        names = ["%s_%d_%d" % (op, len(nodes), i) for i in range(outputs)]
        nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def linear(x, name, pair):
        w, b = pair[0].T, constant(name + ".b", pair[1])
        if kind == "fp32":
            return node("Add", [node("MatMul", [x, constant(name + ".w", w)]), b])
        step = np.abs(w).max(0) / 127
        codes = np.clip(np.round(w / step), -127, 127).astype(np.int8)
        zero = constant(name + ".z", np.zeros(w.shape[1], np.int8))
        if kind == "dynamic":
            if x not in quantized:
                quantized[x] = node("DynamicQuantizeLinear", [x], 3)
            xq, xs, xz = quantized[x]
            y = node("Cast", [node("MatMulInteger", [xq, constant(name + ".q", codes), xz, zero])], to=TensorProto.FLOAT)
            return node("Add", [node("Mul", [y, node("Mul", [xs, constant(name + ".s", step.astype(np.float32))])]), b])
        if x not in quantized:
            s, z = constant(x + ".xs", np.float32(0.05)), constant(x + ".xz", np.uint8(128))
            quantized[x] = node("DequantizeLinear", [node("QuantizeLinear", [x, s, z]), s, z])
        dequantized = node("DequantizeLinear", [constant(name + ".q", codes), constant(name + ".s", step.astype(np.float32)), zero], axis=1)
        return node("Add", [node("MatMul", [quantized[x], dequantized]), b])

    def norm(x, name):
        return node("LayerNormalization", [x, constant(name + ".g", np.ones(HIDDEN, np.float32)),
                                           constant(name + ".e", np.zeros(HIDDEN, np.float32))], axis=-1, epsilon=1e-12)

    split, merge = constant("split", np.array([0, 0, HEADS, HIDDEN // HEADS])), constant("merge", np.array([0, 0, HIDDEN]))
    scale, half, one, root = (constant(n, np.float32(v)) for n, v in (("scale", 0.125), ("half", 0.5), ("one", 1.0), ("root", 2 ** 0.5)))
    x = "x"
    for i, layer in enumerate(weights.layers):
        p = "l%d" % i
        q, k, v = (linear(x, p + n, layer[n]) for n in "qkv")
        q = node("Transpose", [node("Reshape", [q, split])], perm=[0, 2, 1, 3])
        k = node("Transpose", [node("Reshape", [k, split])], perm=[0, 2, 3, 1])
        v = node("Transpose", [node("Reshape", [v, split])], perm=[0, 2, 1, 3])
        a = node("Softmax", [node("Mul", [node("MatMul", [q, k]), scale])], axis=-1)
        o = node("Reshape", [node("Transpose", [node("MatMul", [a, v])], perm=[0, 2, 1, 3]), merge])
        x = norm(node("Add", [linear(o, p + "o", layer["o"]), x]), p + "n1")
        u = linear(x, p + "f1", layer["f1"])
        g = node("Mul", [node("Mul", [u, node("Add", [node("Erf", [node("Div", [u, root])]), one])]), half])
        x = norm(node("Add", [linear(g, p + "f2", layer["f2"]), x]), p + "n2")
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(nodes, "bert", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "S", HIDDEN])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "S", HIDDEN])], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def onnxruntime_peers(weights, folder, threads):
    import onnxruntime as ort
    for kind in ("fp32", "dynamic", "qdq"):
        path = write_onnx(weights, kind, os.path.join(folder, kind + ".onnx"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        label = "ONNX Runtime %s %s" % (ort.__version__, {"fp32": "f32", "dynamic": "int8 dynamic", "qdq": "int8 QDQ"}[kind])
        yield label, kind != "fp32", lambda x, s=session: s.run(None, {"x": x})


def openvino_peers(weights, folder, threads):
    import openvino as ov
    core = ov.Core()
    for kind in ("fp32", "qdq"):
        path = os.path.join(folder, kind + ".onnx")
        if not os.path.exists(path):
            write_onnx(weights, kind, path)
        compiled = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                                                    "INFERENCE_PRECISION_HINT": "f32"})
        request = compiled.create_infer_request()
        yield ("OpenVINO %s %s" % (ov.__version__.split("-")[0], "f32" if kind == "fp32" else "int8 QDQ"), kind != "fp32",
               lambda x, r=request: r.infer({"x": x}))


def ctranslate2_peers(weights, folder, threads):
    import ctranslate2
    from ctranslate2.specs import common_spec, transformer_spec
    spec = transformer_spec.TransformerEncoderModelSpec(
        transformer_spec.TransformerEncoderSpec(LAYERS, HEADS, pre_norm=False, activation=common_spec.Activation.GELU,
                                                layernorm_embedding=True, num_source_embeddings=1), pooling_layer=False)
    rng, e = weights.rng, spec.encoder
    for embedding, rows in ((e.embeddings[0], 1000), (e.position_encodings, 512)):
        name = "encodings" if embedding is e.position_encodings else "weight"
        setattr(embedding, name, rng.standard_normal((rows, HIDDEN), dtype=np.float32))
    norms = [e.layernorm_embedding]
    for layer, own in zip(e.layer, weights.layers):
        for linear, parts in ((layer.self_attention.linear[0], "qkv"), (layer.self_attention.linear[1], ["o"]),
                              (layer.ffn.linear_0, ["f1"]), (layer.ffn.linear_1, ["f2"])):
            linear.weight = np.concatenate([own[p][0] for p in parts])
            linear.bias = np.concatenate([own[p][1] for p in parts])
        norms += [layer.self_attention.layer_norm, layer.ffn.layer_norm]
    for norm in norms:
        norm.gamma, norm.beta = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
    spec.register_vocabulary(["<unk>"] + ["t%d" % i for i in range(999)])
    spec.config.unk_token = "<unk>"
    spec.validate()
    path = os.path.join(folder, "ct2")
    os.makedirs(path, exist_ok=True)
    spec.save(path)
    for kind in ("float32", "int8"):
        encoder = ctranslate2.Encoder(path, device="cpu", compute_type=kind, intra_threads=threads)

        def run(x, encoder=encoder):
            ids = [[int(t) for t in row] for row in (np.abs(x[:, :, 0]) * 997).astype(np.int64) % 1000]
            return encoder.forward_batch(ids)
        yield "CTranslate2 %s %s" % (ctranslate2.__version__, "f32" if kind == "float32" else kind), kind == "int8", run


def torch_peers(weights, folder, threads):
    import torch
    torch.set_num_threads(threads)

    class Block(torch.nn.Module):
        def __init__(self, own):
            super().__init__()
            for name, (w, b) in own.items():
                module = torch.nn.Linear(w.shape[1], w.shape[0])
                module.weight.data, module.bias.data = torch.from_numpy(w), torch.from_numpy(b)
                setattr(self, name, module)
            self.n1, self.n2 = torch.nn.LayerNorm(HIDDEN), torch.nn.LayerNorm(HIDDEN)

        def forward(self, x):
            b, s, _ = x.shape
            q, k, v = (m(x).view(b, s, HEADS, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
            a = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, HIDDEN)
            x = self.n1(x + self.o(a))
            return self.n2(x + self.f2(torch.nn.functional.gelu(self.f1(x))))

    model = torch.nn.Sequential(*[Block(own) for own in weights.layers]).eval()
    int8 = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    for name, m in (("f32", model), ("int8 dynamic", int8)):
        def run(x, m=m):
            with torch.inference_mode():
                return m(torch.from_numpy(x))
        yield "PyTorch %s %s" % (torch.__version__, name), name != "f32", run


def run_quell(command, isa, scheme, shape, threads, repeat):
    environment = dict(os.environ, **({"QUELL_ISA": isa} if isa else {}))
    arguments = [command, "bench", "--random", "bert-base", "--shape", shape, "-t", str(threads), "-r", str(repeat), "-o", "json", "--quiet"]
    arguments += ["--engine", "float"] if scheme == "f32" else ["--engine", "integer", "--scheme", scheme.split()[0]]
    if "attention" in scheme:
        arguments.append("--quantize-attention")
    if "per-token" in scheme:
        arguments += ["--recipe", "minmax_dynamic"]
    out = json.loads(subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    return out, [row["ms_min"] for row in out["rows"]], [row["ms_median"] for row in out["rows"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quell")
    parser.add_argument("--shapes", default="1x128,8x128,32x128")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="")
    parser.add_argument("--schemes", default="f32,W8A8,W8A8 attention,W8A8 per-token")
    parser.add_argument("--peers", default="onnxruntime,openvino,ctranslate2,torch")
    options = parser.parse_args()
    weights, peers, missing = Weights(), [], []
    makers = {"onnxruntime": onnxruntime_peers, "openvino": openvino_peers, "ctranslate2": ctranslate2_peers, "torch": torch_peers}
    folder = tempfile.mkdtemp(prefix="quell-peers-")
    for name in filter(None, options.peers.split(",")):
        try:
            peers += list(makers[name](weights, folder, options.threads))
        except Exception as error:  # a peer that does not run here must not stop the others
            missing.append("%s (%s)" % (name, str(error).splitlines()[0] if str(error) else type(error).__name__))
    schemes = [s for s in options.schemes.split(",") if s]
    times, cpu = {}, ""
    for shape in options.shapes.split(","):
        batch, length = map(int, shape.split("x"))
        x = np.random.default_rng(1).standard_normal((batch, length, HIDDEN), dtype=np.float32)
        for _, _, run in peers:
            run(x)
        for _ in range(options.rounds):
            for label, _, run in peers:
                for _ in range(options.repeat):
                    start = time.perf_counter()
                    run(x)
                    times.setdefault((label, shape), []).append(1e3 * (time.perf_counter() - start))
            for scheme in schemes:
                out, low, median = run_quell(options.quell, options.isa, scheme, shape, options.threads, options.repeat)
                cpu = "%s, Quell on %s" % (out["cpu"], out["isa"])
                times.setdefault(("Quell " + scheme, shape), []).extend(low + median)
            print("%s: a round done" % shape, file=sys.stderr)
    shapes = options.shapes.split(",")
    print("%s, %d threads; ms, median / min over %d rounds\n" % (cpu, options.threads, options.rounds))
    print("| | " + " | ".join(shapes) + " |\n|---|" + "---:|" * len(shapes))
    for label in dict.fromkeys(label for label, _ in times):
        print("| %s | %s |" % (label, " | ".join("%.1f / %.1f" % (statistics.median(times[label, s]), min(times[label, s])) for s in shapes)))

    def best(labels, shape):
        return min(statistics.median(times[label, shape]) for label in labels)
    ort8 = [label for label, int8, _ in peers if int8 and label.startswith("ONNX Runtime")]
    ort32 = [label for label, int8, _ in peers if not int8 and label.startswith("ONNX Runtime")]
    all8 = [label for label, int8, _ in peers if int8]
    print("\n| Quell is faster by | against | " + " | ".join(shapes) + " |\n|---|---|" + "---:|" * len(shapes))
    for scheme in schemes:
        own = "Quell " + scheme
        rows = [("ONNX Runtime int8, its best", ort8), ("the best int8 of all peers", all8), ("ONNX Runtime f32", ort32),
                ("Quell per-token", ["Quell W8A8 per-token"] if "W8A8 per-token" in schemes else [])]
        for name, labels in rows:
            if labels and labels != [own]:
                print("| %s | %s | %s |" % (own, name, " | ".join(
                    "%.2f" % (best(labels, s) / statistics.median(times[own, s])) for s in shapes)))
    if missing:
        print("\nnot measured: " + "; ".join(missing))


main()
