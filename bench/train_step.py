#!/usr/bin/env python3
"""Time and peak memory of a training step: `quell train` and `quell distill` beside the same BERT in PyTorch, runs interleaved.

usage: /usr/bin/python3 bench/train_step.py build/release/bin/quell [--shape minilm|bert-base] [--threads 2] [--rounds 3]

Wants Debian's python3-torch (1.13.1, the libtorch of quell-train). Rows: fine-tune learns from labels; distill from a teacher of the same shape
(logits, hidden states, attention scores); ternary the same with the quantizers of recipe ternarybert. Both sides start from the same weights and
read the same full batch in every step, so that with --dropout 0 the last losses are equal (but for codes on a tie). A side runs in a process of
its own and ends behind its last step. A step's time is the median of a run, the first --warm-up left out; of Quell it is the time from a line of
metrics.jsonl to the next. Seconds of processors ("CPU s") say more than those of the clock where something else runs. Memory is the peak of the
whole process, Python's and the models' loading included.
Aims: at most 1.2 times PyTorch's time, with a teacher 1.1; at most 1.3 times its memory.
"""
import argparse
import json
import math
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    sys.exit("%s has no torch: apt-get install python3-torch, and run this with /usr/bin/python3" % sys.executable)

SHAPES = {  # hidden, layers, heads, intermediate, batch, length
    "minilm": (384, 6, 12, 1536, 32, 64),
    "bert-base": (768, 12, 12, 3072, 32, 128),
}
CLIP = 2.5  # of weights, in TernaryBERT
TERNARY = """quantizers:
  weights: {twn: {granularity: tensor, clip: 2.5}}
  embeddings: {twn: {granularity: row, clip: 2.5}}
  activations: {dynamic: {granularity: token, bits: 8}}
  attention: {static_step: {bits: 8}}
  map: {static_step: {bits: 8, symmetric: false}}
"""
TEACHER = "objective: [logits: {kind: soft_cross_entropy}, hidden_states, attention_scores]\n"
ROWS = {"fine-tune": "objective: [labels]\n", "distill": TEACHER, "ternary": TERNARY + TEACHER}
TRAINING = """name: step
training: {{optimizer: adamw, learning_rate: 5.0e-5, weight_decay: 0.01, clip_gradients: global, clip_norm: 1, warmup: 0, decay: constant,
           batch_size: {batch}, max_seq_length: {length}, dropout: {dropout}}}
"""


# PyTorch's side.

class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, value, inside):
        ctx.save_for_backward(inside)
        return value

    @staticmethod
    def backward(ctx, gradient):
        inside, = ctx.saved_tensors
        return gradient if inside is None else gradient * inside, None, None


def ternary(weight, dim):
    """TWN with one step for all, or for each row (dim 1)."""
    with torch.no_grad():
        clipped = weight.clamp(-CLIP, CLIP)
        magnitude = clipped.abs()
        selected = magnitude > 0.7 * magnitude.mean(dim, keepdim=True)
        scale = (magnitude * selected).sum(dim, keepdim=True) / selected.sum(dim, keepdim=True).clamp(min=1)
        value = clipped.sign() * selected * scale
    return StraightThrough.apply(weight, value, weight.abs() < CLIP)


class ByToken(nn.Module):
    """Eight bits, a fresh step for each token."""

    def forward(self, x):
        with torch.no_grad():
            scale = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-8)
            value = (x * scale).round() / scale
        return StraightThrough.apply(x, value, None)


class LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, step, zero, low, high):
        zero = zero.round().clamp(low, high)
        ctx.save_for_backward(x, step, zero)
        ctx.range = low, high
        return ((x / step).round().add_(zero).clamp_(low, high).sub_(zero)).mul_(step)

    @staticmethod
    def backward(ctx, gradient):
        x, step, zero = ctx.saved_tensors
        low, high = ctx.range
        v = x / step
        clipped = v.clamp(low - zero, high - zero)
        inside = clipped == v
        factor = 1 / math.sqrt(v.numel() * high)
        to_x = gradient * inside
        to_step = factor * ((clipped.round() - v * inside) * gradient).sum()
        return to_x, to_step, -factor * (gradient.sum() - to_x.sum()) * step, None, None


class StaticStep(nn.Module):
    """Eight bits with one learned step, as in LSQ+; it starts from the range of the first values."""

    def __init__(self, symmetric):
        super().__init__()
        self.low, self.high = (-127, 127) if symmetric else (0, 255)
        self.step = nn.Parameter(torch.tensor(0.0))
        self.zero = nn.Parameter(torch.tensor(0.0), requires_grad=not symmetric)

    def start(self, least, most):
        if self.low < 0:
            self.step.data = torch.maximum(-least, most) / self.high
        else:
            self.step.data = (most - least) / self.high
            self.zero.data = -least / self.step.data

    def forward(self, x):
        if self.step == 0:
            self.start(x.min().clamp(max=0), x.max().clamp(min=0))
        return LearnedStep.apply(x, self.step, self.zero, self.low, self.high)


class Linear(nn.Linear):
    def __init__(self, inputs, outputs, quantized):
        super().__init__(inputs, outputs)
        self.quantized = quantized

    def forward(self, x):
        return F.linear(x, ternary(self.weight, (0, 1)) if self.quantized else self.weight, self.bias)


class Layer(nn.Module):
    def __init__(self, config, dropout, quantized):
        super().__init__()
        hidden, self.heads, wide = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
        self.query, self.key, self.value, self.attended = (Linear(hidden, hidden, quantized) for _ in range(4))
        self.intermediate, self.output = Linear(hidden, wide, quantized), Linear(wide, hidden, quantized)
        self.attention_norm, self.output_norm = (nn.LayerNorm(hidden, config["layer_norm_eps"]) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.read = ByToken() if quantized else nn.Identity()
        self.of_query, self.of_key, self.of_value = (StaticStep(symmetric=True) if quantized else nn.Identity() for _ in range(3))
        self.of_map = StaticStep(symmetric=False) if quantized else nn.Identity()

    def split(self, x):
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x, mask):
        """What the layer gives, and its attention scores."""
        read = self.read(x)
        q, k, v = (quantize(self.split(linear(read))) for quantize, linear in
                   ((self.of_query, self.query), (self.of_key, self.key), (self.of_value, self.value)))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask
        context = self.of_map(self.dropout(scores.softmax(-1))) @ v
        context = context.transpose(1, 2).reshape(x.shape)
        x = self.attention_norm(x + self.dropout(self.attended(self.read(context))))
        wide = F.gelu(self.intermediate(self.read(x)))
        return self.output_norm(x + self.dropout(self.output(self.read(wide)))), scores


class Bert(nn.Module):
    def __init__(self, config, dropout, quantized):
        super().__init__()
        hidden = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], hidden, padding_idx=0)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], hidden)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], hidden)
        self.norm = nn.LayerNorm(hidden, config["layer_norm_eps"])
        self.layers = nn.ModuleList(Layer(config, dropout, quantized) for _ in range(config["num_hidden_layers"]))
        self.pooler, self.classifier = Linear(hidden, hidden, quantized), nn.Linear(hidden, 2)
        self.dropout = nn.Dropout(dropout)
        self.quantized = quantized
        self.read = ByToken() if quantized else nn.Identity()

    def forward(self, ids, mask, with_layers=False):
        """Logits, and if they are wanted hidden states with the embeddings in front and attention scores."""
        table = ternary(self.word_embeddings.weight, 1) if self.quantized else self.word_embeddings.weight
        words = F.embedding(ids, table, padding_idx=0)
        x = words + self.token_type_embeddings(torch.zeros_like(ids)) + self.position_embeddings(torch.arange(ids.shape[1]))
        x = self.dropout(self.norm(x))
        hidden, scores = [x], []
        for layer in self.layers:
            x, of_layer = layer(x, mask)
            if with_layers:
                hidden.append(x)
                scores.append(of_layer)
        pooled = self.pooler(self.read(x[:, 0])).tanh()
        return self.classifier(self.dropout(pooled)), hidden, scores


OUR_NAMES = {"bert.encoder.layer.": "layers.", "bert.pooler.dense": "pooler", "bert.embeddings.LayerNorm": "norm", "bert.embeddings.": "",
             "attention.self.": "", "attention.output.dense": "attended", "attention.output.LayerNorm": "attention_norm",
             "intermediate.dense": "intermediate", "output.dense": "output", "output.LayerNorm": "output_norm"}


def load_weights(model, file):
    """Hugging Face's names in a file of safetensors."""
    data = bytearray(file.read_bytes())
    begin = 8 + int.from_bytes(data[:8], "little")
    weights = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name == "__metadata__":
            continue
        for theirs, ours in OUR_NAMES.items():
            name = name.replace(theirs, ours)
        first, last = entry["data_offsets"]
        weights[name] = torch.frombuffer(data, dtype=torch.float32, count=(last - first) // 4, offset=begin + first).view(entry["shape"])
    missing, unknown = model.load_state_dict(weights, strict=False)
    strange = unknown + [name for name in missing if "of_" not in name]  # steps of quantizers start in the first pass
    assert not strange, strange


def score_loss(student, teacher):
    student, teacher = (torch.where(scores <= -1e2, torch.zeros_like(scores), scores) for scores in (student, teacher))
    return F.mse_loss(student, teacher)


def distillation_loss(student, teacher):
    loss = -(teacher[0].softmax(-1) * student[0].log_softmax(-1)).sum(-1).mean()
    loss = loss + sum(F.mse_loss(s, t) for s, t in zip(student[1], teacher[1]))
    return loss + sum(score_loss(s, t) for s, t in zip(student[2], teacher[2]))


def training_loss(student, teacher, ids, labels, mask):
    if not teacher:
        return F.cross_entropy(student(ids, mask)[0], labels)
    with torch.no_grad():
        of_teacher = teacher(ids, mask, with_layers=True)
    return distillation_loss(student(ids, mask, with_layers=True), of_teacher)


def make_model(directory, dropout, quantized):
    model = Bert(json.loads((directory / "config.json").read_text()), dropout, quantized)
    load_weights(model, directory / "model.safetensors")
    return model


def train_in_pytorch(job):
    """Steps of a row; prints when each ended, the last loss and the peak of memory."""
    work = pathlib.Path(job["work"])
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    rows = [line.split("\t") for line in (work / "rows.tsv").read_text().splitlines()[1:]]
    ids = torch.tensor([[int(word[1:]) for word in text.split()] for text, _ in rows])
    labels = torch.tensor([int(label) for _, label in rows])
    mask = torch.zeros(ids.shape[0], 1, 1, ids.shape[1])  # no padding

    student = make_model(work / "student", job["dropout"], job["row"] == "ternary")
    teacher = make_model(work / "teacher", 0, False).eval() if job["row"] != "fine-tune" else None
    if job["row"] == "ternary":
        with torch.no_grad():
            student.eval()(ids, mask)
            student.train()
    matrices, vectors = ([p for p in student.parameters() if p.requires_grad and (p.dim() > 1) == is_matrix] for is_matrix in (True, False))
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0}], lr=5e-5)

    ends = [now()]
    for _ in range(job["steps"]):
        optimizer.zero_grad(set_to_none=True)
        loss = training_loss(student, teacher, ids, labels, mask)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1)
        optimizer.step()
        loss = loss.item()
        ends.append(now())
    print(json.dumps({"ends": ends, "loss": loss, "peak": peak_memory("self")}))


# Both sides.

def now(pid="self"):
    """Seconds on the clock, and seconds of processors that the threads of a process took."""
    threads = pathlib.Path("/proc/%s/task" % pid).glob("*/schedstat")
    return time.perf_counter(), sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def peak_memory(pid):
    """MB of a process that runs."""
    return int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path("/proc/%s/status" % pid).read_text())[1]) / 1024


def environment(threads):
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}


def write_start(args, work):
    """Weights of a student and a teacher, and a batch of rows of whole words without padding."""
    start = work / "start"
    start.mkdir()
    (start / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"w%d" % i: i for i in range(args.vocab)}, "unk_token": "w0"}}))
    (start / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (start / "config.json").write_text(json.dumps({
        "model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": args.vocab, "hidden_size": args.hidden,
        "num_hidden_layers": args.layers, "num_attention_heads": args.heads, "intermediate_size": args.intermediate, "hidden_act": "gelu",
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "initializer_range": 0.02, "pad_token_id": 0}))
    draw = random.Random(1)
    rows = ["%s\t%d" % (" ".join("w%d" % draw.randrange(1, args.vocab) for _ in range(args.length)), i % 2) for i in range(args.batch)]
    (work / "rows.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    for name, recipe in ROWS.items():
        (work / (name + ".yaml")).write_text(TRAINING.format(batch=args.batch, length=args.length, dropout=args.dropout) + recipe)
    for seed, name in enumerate(("student", "teacher")):
        subprocess.run([args.quell, "train", start, work / name, "--config", "--seed", str(seed), "--steps", "1", "--batch-size", "1",
                        *data_options(work), "--quiet"], check=True, env=environment(args.threads))


def data_options(work):
    return ["--task", "classification", "--data", work / "rows.tsv", "--text-column", "text", "--label-column", "label"]


def train_in_quell(args, work, row):
    """The same; the process is ended when its last step has left its line."""
    models = ["train", work / "student"] if row == "fine-tune" else ["distill", work / "teacher"]
    options = [] if row == "fine-tune" else ["--student", work / "student"]
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        metrics = pathlib.Path(scratch) / "out.training/metrics.jsonl"
        process = subprocess.Popen([args.quell, *models, pathlib.Path(scratch) / "out", *options, "--recipe", work / (row + ".yaml"),
                                    *data_options(work), "--steps", str(args.steps + 1000), "--log-every", "1", "--checkpoint-every", "1000000",
                                    "--threads", str(args.threads), "--quiet"], stderr=subprocess.PIPE, text=True,
                                   env=environment(args.threads))
        ends = []
        while len(ends) < args.steps:
            if process.poll() is not None:
                sys.exit("quell ended with exit code %d: %s" % (process.returncode, process.stderr.read()))
            lines = metrics.read_text().splitlines() if metrics.exists() else []
            ends += [now(process.pid)] * (len(lines) - len(ends))
            time.sleep(0.003)
        peak = peak_memory(process.pid)
        process.kill()
        process.communicate()
    return {"ends": ends, "loss": json.loads(lines[args.steps - 1])["loss"], "peak": peak}


def train_in_pytorch_process(args, work, row):
    job = {"work": str(work), "row": row, "steps": args.steps, "threads": args.threads, "dropout": args.dropout}
    done = subprocess.run([sys.executable, __file__, "--pytorch", json.dumps(job)], check=True, stdout=subprocess.PIPE,
                          env=environment(args.threads))
    return json.loads(done.stdout)


def compare(args, work, row):
    """A line of the table."""
    runs = {"quell": [], "pytorch": []}
    for number in range(args.rounds):
        for side, train in (("quell", train_in_quell), ("pytorch", train_in_pytorch_process)):
            run = train(args, work, row)
            ends = run["ends"][-(args.steps - args.warm_up + 1):]
            run["seconds"], run["cpu"] = (statistics.median(b[clock] - a[clock] for a, b in zip(ends, ends[1:])) for clock in (0, 1))
            runs[side].append(run)
            print("%s, round %d, %s: %.3f s, %.3f s of processors, %.0f MB, loss %.6f" % (row, number + 1, side, run["seconds"], run["cpu"],
                                                                                         run["peak"], run["loss"]), file=sys.stderr, flush=True)

    def cells(what, digits):
        ratios = [q[what] / p[what] for q, p in zip(runs["quell"], runs["pytorch"])]
        sides = ["%.*f" % (digits, statistics.median(run[what] for run in runs[side])) for side in runs]
        return [*sides, "%.2f (%.2f to %.2f)" % (statistics.median(ratios), min(ratios), max(ratios))]

    losses = ["%.5f" % of_side[-1]["loss"] for of_side in runs.values()]
    return "| %s |" % " | ".join([row, *cells("seconds", 3), *cells("cpu", 3), *cells("peak", 0), *losses])


def processor():
    return next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))


def main():
    if sys.argv[1:2] == ["--pytorch"]:  # the other process
        return train_in_pytorch(json.loads(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quell", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    for name in ("hidden", "layers", "heads", "intermediate", "batch", "length"):
        parser.add_argument("--" + name, type=int, help="instead of the shape's")
    parser.add_argument("--vocab", type=int, default=30522)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm-up", type=int, default=2, help="first steps that are not timed, at least 1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.1)
    args = parser.parse_args()
    for name, value in zip(("hidden", "layers", "heads", "intermediate", "batch", "length"), SHAPES[args.shape]):
        setattr(args, name, getattr(args, name) or value)
    if not 1 <= args.warm_up < args.steps:
        parser.error("--warm-up: at least 1, and less than --steps")

    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        write_start(args, work)
        lines = [compare(args, work, row) for row in args.rows]
    version = subprocess.run([args.quell, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")[0]
    print("%s, threads: %d; %s; PyTorch %s" % (processor(), args.threads, version, torch.__version__))
    print("BERT of %d layers, width %d, %d heads, intermediate %d, vocabulary %d; %d rows of %d tokens; rounds: %d\n"
          % (args.layers, args.hidden, args.heads, args.intermediate, args.vocab, args.batch, args.length, args.rounds))
    print("| step | Quell, s | PyTorch, s | ratio (range) | Quell, CPU s | PyTorch, CPU s | ratio (range) | Quell, MB | PyTorch, MB | ratio (range) "
          "| loss, Quell | loss, PyTorch |\n|---|" + "---:|" * 11)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
