"""Convolutional networks in the peers: ONNX Runtime and OpenVINO. A network is a description (docs/network_description.md) and its tensors; its
ONNX model has batch norms folded, as runtimes do. Each maker yields (label, make), and make(batch) gives run(x) with x [batch, 3, height, width]."""
import json
import os
import sys

import numpy as np

CALIBRATION_IMAGES = 16


class Network:
    """`graph`: nodes in order. `normalize` says what images of random bytes become."""

    def __init__(self, name, size, graph, tensors, mean, std, scale):
        self.name, self.size, self.graph, self.tensors = name, size, graph, tensors
        self.mean, self.std, self.scale = (np.asarray(v, np.float32) for v in (mean, std, scale))
        read = {i for node in graph for i in node["inp"]}
        self.output = next(node["out"] for node in graph if node["out"] not in read)

    @staticmethod
    def read(folder):
        from safetensors.numpy import load_file
        with open(os.path.join(folder, "config.json")) as file:
            config = json.load(file)
        p = config["preprocess"]
        scale = 1 / 255 if p["scale"] == "divide by 255" else 1
        return Network(os.path.basename(os.path.normpath(folder)), config["input"][1], config["graph"],
                       load_file(os.path.join(folder, "model.safetensors")), p.get("mean", [0] * 3), p.get("std", [1] * 3), scale)

    @staticmethod
    def resnet18(folder):
        """The shape of torchvision's, with random weights; written to `folder` as a checkpoint that Quell reads."""
        from safetensors.numpy import save_file
        rng, graph, tensors = np.random.default_rng(0), [], {}

        def conv(inp, out, channels, kernel, stride, bn, act=None):
            shape = (channels[1], channels[0], kernel, kernel)
            fan = channels[0] * kernel * kernel
            tensors[out + ".weight"] = rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / fan) ** 0.5)
            for suffix, low, high in (("weight", 0.5, 1), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2), ("running_var", 0.8, 1.2)):
                tensors["%s.%s" % (bn, suffix)] = rng.uniform(low, high, channels[1]).astype(np.float32)
            node = {"op": "conv", "inp": [inp], "out": out, "weight": out + ".weight", "stride": [stride, stride],
                    "pad": [kernel // 2] * 4, "dilation": 1, "groups": 1, "bn": bn, "bn_eps": 1e-5}
            graph.append(dict(node, act=act) if act else node)
            return out

        x = conv("x", "conv1", (3, 64), 7, 2, "bn1", "relu")
        graph.append({"op": "max_pool", "inp": [x], "out": "maxpool", "kernel": [3, 3], "stride": [2, 2], "pad": [1] * 4})
        x, width = "maxpool", 64
        for stage, channels in enumerate((64, 128, 256, 512), 1):
            for block in range(2):
                p, stride = "layer%d.%d." % (stage, block), 2 if stage > 1 and block == 0 else 1
                y = conv(x, p + "conv1", (width, channels), 3, stride, p + "bn1", "relu")
                y = conv(y, p + "conv2", (channels, channels), 3, 1, p + "bn2")
                if stride == 2:
                    x = conv(x, p + "downsample.0", (width, channels), 1, 2, p + "downsample.1")
                graph.append({"op": "add", "inp": [y, x], "out": p + "add", "act": "relu"})
                x, width = p + "add", channels
        tensors["fc.weight"] = rng.standard_normal((1000, 512), dtype=np.float32) * np.float32(0.05)
        tensors["fc.bias"] = rng.uniform(-0.1, 0.1, 1000).astype(np.float32)
        graph.append({"op": "global_avg_pool", "inp": [x], "out": "pool"})
        graph.append({"op": "linear", "inp": ["pool"], "out": "logits", "weight": "fc.weight", "bias": "fc.bias"})
        os.makedirs(folder, exist_ok=True)
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump({"model_type": "resnet", "architectures": ["resnet18"]}, file)
        with open(os.path.join(folder, "preprocessor_config.json"), "w") as file:
            json.dump({"image_processor_type": "ViTImageProcessor", "image_mean": mean, "image_std": std}, file)
        return Network("resnet-18 shape", 224, graph, tensors, mean, std, 1 / 255)

    def images(self, count, seed):
        """Random fields of colour, smooth and noisy, as the network wants them."""
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (count, 3, 8, 8)).repeat(self.size // 8, 2).repeat(self.size // 8, 3)
        fine = rng.normal(0, 20, coarse.shape)
        pixels = np.clip(coarse + fine, 0, 255).round().astype(np.float32) * self.scale
        return ((pixels - self.mean[:, None, None]) / self.std[:, None, None]).astype(np.float32)

    def reference(self, x):
        """What the description says, in float64, with batch norms as they stand."""
        import torch
        import torch.nn.functional as f
        t = {name: torch.from_numpy(value).double() for name, value in self.tensors.items()}
        values = {"x": torch.from_numpy(x).double()}
        for node in self.graph:
            inputs = [values[i] for i in node["inp"]]
            y = inputs[0]
            if node["op"] in ("conv", "max_pool"):
                top, bottom, left, right = node["pad"]
                y = f.pad(y, (left, right, top, bottom), value=0 if node["op"] == "conv" else -float("inf"))
            if node["op"] == "conv":
                y = f.conv2d(y, t[node["weight"]], t[node["bias"]] if "bias" in node else None, node["stride"], 0, node["dilation"], node["groups"])
            elif node["op"] == "max_pool":
                y = f.max_pool2d(y, node["kernel"], node["stride"])
            elif node["op"] == "add":
                y = sum(inputs[1:], inputs[0])
            elif node["op"] == "global_avg_pool":
                y = y.mean((2, 3))
            elif node["op"] == "linear":
                y = f.linear(y, t[node["weight"]], t[node["bias"]])
            else:
                sys.exit("%s: op %s is not supported here" % (self.name, node["op"]))
            if "bn" in node:
                mean, var, weight, bias = (t["%s.%s" % (node["bn"], n)] for n in ("running_mean", "running_var", "weight", "bias"))
                y = f.batch_norm(y, mean, var, weight, bias, eps=node["bn_eps"])
            if "act" in node:
                y = {"relu": f.relu, "relu6": f.relu6}[node["act"]](y)
            values[node["out"]] = y
        return values[self.output].numpy()

    def folded(self, node):
        """Weight and bias of a convolution with its batch norm in them."""
        w = self.tensors[node["weight"]].astype(np.float64)
        b = self.tensors[node["bias"]].astype(np.float64) if "bias" in node else np.zeros(len(w))
        if "bn" in node:
            mean, var, gamma, beta = (self.tensors["%s.%s" % (node["bn"], n)].astype(np.float64) for n in ("running_mean", "running_var", "weight", "bias"))
            factor = gamma / np.sqrt(var + node["bn_eps"])
            w, b = w * factor[:, None, None, None], (b - mean) * factor + beta
        return w.astype(np.float32), b.astype(np.float32)

    def write_onnx(self, path):
        import onnx
        from onnx import TensorProto, helper, numpy_helper
        nodes, initializers = [], []

        def constant(name, value):
            initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
            return name

        def add(op, inputs, out, **attributes):
            nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))

        if any(node.get("act") == "relu6" for node in self.graph):
            low, high = constant("zero", np.float32(0)), constant("six", np.float32(6))
        for node in self.graph:
            op, out, act = node["op"], node["out"], node.get("act")
            y = out + ".linear" if act else out
            if op in ("conv", "max_pool"):
                top, bottom, left, right = node["pad"]
                pads = [top, left, bottom, right]
            if op == "conv":
                w, b = self.folded(node)
                add("Conv", [node["inp"][0], constant(out + ".w", w), constant(out + ".b", b)], y, pads=pads, strides=node["stride"],
                    dilations=[node["dilation"]] * 2, group=node["groups"], kernel_shape=list(w.shape[2:]))
            elif op == "max_pool":
                add("MaxPool", node["inp"], y, kernel_shape=node["kernel"], strides=node["stride"], pads=pads)
            elif op == "add":
                add("Add", node["inp"], y)
            elif op == "global_avg_pool":
                add("GlobalAveragePool", node["inp"], out + ".map")
                add("Flatten", [out + ".map"], y, axis=1)
            elif op == "linear":
                add("Gemm", [node["inp"][0], constant(out + ".w", self.tensors[node["weight"]]), constant(out + ".b", self.tensors[node["bias"]])], y, transB=1)
            else:
                sys.exit("%s: op %s is not supported here" % (self.name, op))
            if act == "relu":
                add("Relu", [y], out)
            elif act == "relu6":
                add("Clip", [y, low, high], out)
            elif act:
                sys.exit("%s: activation %s is not supported here" % (self.name, act))
        sides = [3, self.size, self.size]
        graph = helper.make_graph(nodes, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B"] + sides)],
                                  [helper.make_tensor_value_info(self.output, TensorProto.FLOAT, ["B", 1000])], initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path


def write_models(network, folder, activations):
    """fp32.onnx, and qdq.onnx: static ranges of some images, s8 weights per channel."""
    import logging
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    paths = {kind: os.path.join(folder, kind + ".onnx") for kind in ("fp32", "qdq")}
    network.write_onnx(paths["fp32"])

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = iter(network.images(CALIBRATION_IMAGES, 1))

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"x": image[None]}

    logging.getLogger().setLevel(logging.ERROR)  # it advises to fold batch norms, which is done
    symmetric = activations == "s8"
    quantize_static(paths["fp32"], paths["qdq"], Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                    activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8, extra_options={"ActivationSymmetric": symmetric})
    return paths


class OnnxRuntime:
    def __init__(self, threads):
        import onnxruntime
        self.ort, self.threads = onnxruntime, threads

    def label(self, kind):
        return "ONNX Runtime %s %s" % (self.ort.__version__, {"fp32": "f32", "qdq": "int8 QDQ"}[kind])

    def session(self, path, batch, optimized=None):
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_free_dimension_override_by_name("B", batch)
        options.log_severity_level = 3
        if optimized:
            options.optimized_model_filepath = optimized
        return self.ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def make(self, path, batch):
        session = self.session(path, batch)
        return lambda x: session.run(None, {"x": x})[0]

    def kernels(self, path):
        """Convolutions in integers of all, as the runtime's own optimizer leaves them."""
        import onnx
        optimized = path + ".optimized"
        self.session(path, 1, optimized)
        ops = [node.op_type for node in onnx.load(optimized).graph.node]
        integer, rest = ops.count("QLinearConv"), sum(op.endswith("Conv") and op != "QLinearConv" for op in ops)
        return integer, integer + rest, "QLinearConv"


class OpenVino:
    def __init__(self, threads):
        import openvino
        self.ov, self.core, self.threads = openvino, openvino.Core(), threads

    def label(self, kind):
        return "OpenVINO %s %s" % (self.ov.__version__.split("-")[0], {"fp32": "f32", "qdq": "int8 QDQ", "nncf": "int8 NNCF"}[kind])

    def compiled(self, path, batch):
        model = self.core.read_model(path) if isinstance(path, str) else path.clone()
        shape = model.inputs[0].partial_shape
        model.reshape([batch] + [side.get_length() for side in list(shape)[1:]])
        return self.core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": self.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})

    def make(self, path, batch):
        request = self.compiled(path, batch).create_infer_request()
        return lambda x: request.infer([x])[0]

    def kernels(self, path):
        """Convolutions in integers of all, and the names of their kernels, as the plugin says them."""
        integer, every, names = 0, 0, {}
        for op in self.compiled(path, 1).get_runtime_model().get_ops():
            info = op.get_rt_info()
            layer, kernel = info["layerType"].astype(str), info["primitiveType"].astype(str)
            if layer != "Convolution":
                continue
            every += 1
            integer += kernel.lower().endswith("_i8")
            names[kernel] = names.get(kernel, 0) + 1
        return integer, every, ", ".join("%d %s" % (n, name) for name, n in sorted(names.items(), key=lambda pair: -pair[1]))


def nncf_model(network, path):
    """OpenVINO's own quantizer on the float model; for speed, hence as many operators in integers as it can."""
    import logging

    import nncf
    import openvino
    nncf.set_log_level(logging.ERROR)
    images = network.images(CALIBRATION_IMAGES, 1)
    return nncf.quantize(openvino.Core().read_model(path), nncf.Dataset([image[None] for image in images]), subset_size=CALIBRATION_IMAGES,
                         preset=nncf.QuantizationPreset.PERFORMANCE)
