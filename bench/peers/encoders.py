"""Encoders of BERT's kind in the peers: ONNX Runtime, OpenVINO, CTranslate2 and PyTorch. Each maker yields (label, whether int8,
run(x, ids)) with x [batch, length, hidden] the embeddings and ids the tokens, which CTranslate2 looks up itself."""
import os

import numpy as np


class Encoder:
    """Sizes, and by layer (weight [out, in], bias) of q, k, v, o, f1, f2 and (gamma, beta) of n1, n2."""

    def __init__(self, hidden, heads, layers, vocabulary):
        self.hidden, self.heads, self.layers, self.vocabulary = hidden, heads, layers, vocabulary

    @staticmethod
    def random(layers, hidden, heads, inner, vocabulary=30522):
        rng = np.random.default_rng(0)

        def layer():
            own = {name: (rng.standard_normal((rows, cols), dtype=np.float32) * 0.02, rng.standard_normal(rows, dtype=np.float32) * 0.01)
                   for name, rows, cols in (("q", hidden, hidden), ("k", hidden, hidden), ("v", hidden, hidden), ("o", hidden, hidden),
                                            ("f1", inner, hidden), ("f2", hidden, inner))}
            return dict(own, n1=(np.ones(hidden, np.float32), np.zeros(hidden, np.float32)),
                        n2=(np.ones(hidden, np.float32), np.zeros(hidden, np.float32)))
        return Encoder(hidden, heads, [layer() for _ in range(layers)], vocabulary)


def write_onnx(encoder, kind, path):
    """kind: fp32, dynamic (DynamicQuantizeLinear + MatMulInteger) or qdq (static u8 activations, s8 weights per channel)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    nodes, initializers, quantized, hidden = [], [], {}, encoder.hidden

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

    def norm(x, name, pair):
        return node("LayerNormalization", [x, constant(name + ".g", pair[0]), constant(name + ".e", pair[1])], axis=-1, epsilon=1e-12)

    split, merge = constant("split", np.array([0, 0, encoder.heads, hidden // encoder.heads])), constant("merge", np.array([0, 0, hidden]))
    scale, half, one, root = (constant(n, np.float32(v)) for n, v in (("scale", (hidden // encoder.heads) ** -0.5), ("half", 0.5), ("one", 1.0), ("root", 2 ** 0.5)))
    x = "x"
    for i, layer in enumerate(encoder.layers):
        p = "l%d" % i
        q, k, v = (linear(x, p + n, layer[n]) for n in "qkv")
        q = node("Transpose", [node("Reshape", [q, split])], perm=[0, 2, 1, 3])
        k = node("Transpose", [node("Reshape", [k, split])], perm=[0, 2, 3, 1])
        v = node("Transpose", [node("Reshape", [v, split])], perm=[0, 2, 1, 3])
        a = node("Softmax", [node("Mul", [node("MatMul", [q, k]), scale])], axis=-1)
        o = node("Reshape", [node("Transpose", [node("MatMul", [a, v])], perm=[0, 2, 1, 3]), merge])
        x = norm(node("Add", [linear(o, p + "o", layer["o"]), x]), p + "n1", layer["n1"])
        u = linear(x, p + "f1", layer["f1"])
        g = node("Mul", [node("Mul", [u, node("Add", [node("Erf", [node("Div", [u, root])]), one])]), half])
        x = norm(node("Add", [linear(g, p + "f2", layer["f2"]), x]), p + "n2", layer["n2"])
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(nodes, "bert", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "S", hidden])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "S", hidden])], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def onnxruntime_peers(encoder, folder, threads):
    import onnxruntime as ort
    for kind in ("fp32", "dynamic", "qdq"):
        path = write_onnx(encoder, kind, os.path.join(folder, kind + ".onnx"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        label = "ONNX Runtime %s %s" % (ort.__version__, {"fp32": "f32", "dynamic": "int8 dynamic", "qdq": "int8 QDQ"}[kind])
        yield label, kind != "fp32", lambda x, ids, s=session: s.run(None, {"x": x})[0]


def openvino_peers(encoder, folder, threads):
    import openvino as ov
    core = ov.Core()
    for kind in ("fp32", "qdq"):
        path = os.path.join(folder, kind + ".onnx")
        if not os.path.exists(path):
            write_onnx(encoder, kind, path)
        compiled = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                                                    "INFERENCE_PRECISION_HINT": "f32"})
        request = compiled.create_infer_request()
        yield ("OpenVINO %s %s" % (ov.__version__.split("-")[0], "f32" if kind == "fp32" else "int8 QDQ"), kind != "fp32",
               lambda x, ids, r=request: r.infer({"x": x})[0])


def ctranslate2_peers(encoder, folder, threads):
    import ctranslate2
    from ctranslate2.specs import common_spec, transformer_spec
    spec = transformer_spec.TransformerEncoderModelSpec(
        transformer_spec.TransformerEncoderSpec(len(encoder.layers), encoder.heads, pre_norm=False, activation=common_spec.Activation.GELU,
                                                layernorm_embedding=True, num_source_embeddings=1), pooling_layer=False)
    rng, e, hidden = np.random.default_rng(0), spec.encoder, encoder.hidden
    for embedding, rows in ((e.embeddings[0], encoder.vocabulary), (e.position_encodings, 512)):
        name = "encodings" if embedding is e.position_encodings else "weight"
        setattr(embedding, name, rng.standard_normal((rows, hidden), dtype=np.float32))
    norms = [(e.layernorm_embedding, (np.ones(hidden, np.float32), np.zeros(hidden, np.float32)))]
    for layer, own in zip(e.layer, encoder.layers):
        for linear, parts in ((layer.self_attention.linear[0], "qkv"), (layer.self_attention.linear[1], ["o"]),
                              (layer.ffn.linear_0, ["f1"]), (layer.ffn.linear_1, ["f2"])):
            linear.weight = np.concatenate([own[p][0] for p in parts])
            linear.bias = np.concatenate([own[p][1] for p in parts])
        norms += [(layer.self_attention.layer_norm, own["n1"]), (layer.ffn.layer_norm, own["n2"])]
    for norm, (gamma, beta) in norms:
        norm.gamma, norm.beta = gamma, beta
    spec.register_vocabulary(["<unk>"] + ["t%d" % i for i in range(encoder.vocabulary - 1)])
    spec.config.unk_token = "<unk>"
    spec.validate()
    path = os.path.join(folder, "ct2")
    os.makedirs(path, exist_ok=True)
    spec.save(path)
    for kind in ("float32", "int8"):
        runtime = ctranslate2.Encoder(path, device="cpu", compute_type=kind, intra_threads=threads)

        def run(x, ids, runtime=runtime):
            return np.array(runtime.forward_batch(ids).last_hidden_state)
        yield "CTranslate2 %s %s" % (ctranslate2.__version__, "f32" if kind == "float32" else kind), kind == "int8", run


def torch_peers(encoder, folder, threads):
    import torch
    torch.set_num_threads(threads)

    class Block(torch.nn.Module):
        def __init__(self, own):
            super().__init__()
            for name, (w, b) in own.items():
                if name.startswith("n"):
                    continue
                module = torch.nn.Linear(w.shape[1], w.shape[0])
                module.weight.data, module.bias.data = torch.from_numpy(w), torch.from_numpy(b)
                setattr(self, name, module)
            self.n1, self.n2 = torch.nn.LayerNorm(encoder.hidden), torch.nn.LayerNorm(encoder.hidden)
            for norm, (gamma, beta) in ((self.n1, own["n1"]), (self.n2, own["n2"])):
                norm.weight.data, norm.bias.data = torch.from_numpy(gamma), torch.from_numpy(beta)

        def forward(self, x):
            b, s, _ = x.shape
            q, k, v = (m(x).view(b, s, encoder.heads, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
            a = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, encoder.hidden)
            x = self.n1(x + self.o(a))
            return self.n2(x + self.f2(torch.nn.functional.gelu(self.f1(x))))

    model = torch.nn.Sequential(*[Block(own) for own in encoder.layers]).eval()
    int8 = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    for name, m in (("f32", model), ("int8 dynamic", int8)):
        def run(x, ids, m=m):
            with torch.inference_mode():
                return m(torch.from_numpy(x)).numpy()
        yield "PyTorch %s %s" % (torch.__version__, name), name != "f32", run


MAKERS = {"onnxruntime": onnxruntime_peers, "openvino": openvino_peers, "ctranslate2": ctranslate2_peers, "torch": torch_peers}


def make_peers(names, encoder, folder, threads):
    """Peers that run here, and why others do not."""
    peers, missing = [], []
    for name in filter(None, names.split(",")):
        try:
            peers += list(MAKERS[name](encoder, folder, threads))
        except Exception as error:  # a peer that does not run here must not stop the others
            missing.append("%s (%s)" % (name, str(error).splitlines()[0] if str(error) else type(error).__name__))
    return peers, missing
