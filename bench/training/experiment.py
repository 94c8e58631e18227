"""What the experiments of this folder share: a table of one line a run, which says what is done already, and the commands."""
import json
import pathlib
import subprocess
import time


def processor():
    return next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))


class Table:
    """A tab-separated file; the first columns name a run."""

    def __init__(self, path, keys, results):
        self.path = pathlib.Path(path)
        self.keys = keys
        self.columns = keys + results + ["processor", "hours"]

    def has(self, key):
        if not self.path.exists():
            return False
        return any(line.split("\t")[:len(self.keys)] == [str(k) for k in key] for line in self.path.read_text().splitlines()[1:])

    def append(self, key, results, hours):
        if not self.path.exists():
            self.path.write_text("\t".join(self.columns) + "\n")
        with self.path.open("a") as table:
            table.write("\t".join(str(v) for v in [*key, *results, processor(), "%.2f" % hours]) + "\n")


class Quell:
    def __init__(self, command, threads):
        self.command = command
        self.threads = threads

    def train(self, subcommand, source, out, *options):
        """Trains `out` where it is not there; a run that was stopped goes on. Returns its notes and the hours that this took."""
        begin = time.time()
        if not out.exists():
            subprocess.run([self.command, subcommand, source, out, *[str(o) for o in options], "--threads", str(self.threads), "--checkpoint-every",
                            "30"], check=True)
        return json.loads((out / "training/run.json").read_text()), (time.time() - begin) / 3600

    def metrics(self, model, task, data, *options):
        out = subprocess.run([self.command, "eval", model, "--task", task, "--data", data, "--quiet", "--json", "-", *[str(o) for o in options]],
                             check=True, capture_output=True, text=True)
        return {r["metric"]: r["value"] for r in json.loads(out.stdout)["results"]}


def share_of_codes(notes):
    """Of activation codes that differ from training; "-" of float models."""
    return notes.get("deployment", {}).get("share", "-")


def last_diagnostics(out):
    """The last line of diagnostics of a run, by name."""
    found = {}
    for line in (out / "training/metrics.jsonl").read_text().splitlines():
        found = json.loads(line).get("diagnostics", found)
    return found


def arguments(parser, *paths):
    for name in ("quell", *paths, "work"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    return args
