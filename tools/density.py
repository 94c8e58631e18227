#!/usr/bin/env python3
"""How densely the C++ of a tree is written: tokens a line of code, blank and comment lines, conditional expressions.

  tools/density.py [--worst 15] [FOLDER ...]

Prints a row a folder below quell/ and the densest files. Information, no gate: what reads well is for people to judge. A line of code is one
that is neither blank nor a comment; a token is a name, a number, a text or an operator; tests and tables of numbers (data files) count as well.
"""
import argparse
import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
RAW_STRING = re.compile(r'R"([^(\s]*)\(.*?\)\1"', re.S)
TOKEN = re.compile(r"""
    "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*'                             # texts
  | [A-Za-z_]\w*                                                      # names
  | (?:0[xX][0-9a-fA-F'.pP+-]+ | \d(?:[\d']|[eE][+-]?|[.\w])*)        # numbers
  | <<= | >>= | <=> | \.\.\. | ->\* | :: | -> | \+\+ | -- | << | >> | <= | >= | == | != | && | \|\| | [-+*/%&|^]=
  | \S""", re.X)

Measure = collections.namedtuple("Measure", "lines code blank comment tokens conditionals")


def measure(path):
    text = RAW_STRING.sub('""', path.read_text(encoding="utf-8"))
    text = re.sub(r"/\*.*?\*/", lambda m: "//" + "\n//" * m.group().count("\n"), text, flags=re.S)
    lines = text.splitlines()
    blank = sum(not line.strip() for line in lines)
    comment = sum(line.strip().startswith("//") for line in lines)
    tokens = conditionals = 0
    for line in lines:
        found = TOKEN.findall(re.sub(r'("(?:\\.|[^"\\])*")|//.*', lambda m: m.group(1) or "", line))
        tokens += len(found)
        conditionals += found.count("?")
    return Measure(len(lines), len(lines) - blank - comment, blank, comment, tokens, conditionals)


def row(name, m):
    code, lines = max(m.code, 1), max(m.lines, 1)
    return "%-44s %7d %8.1f %8.1f %% %8.1f %% %8.1f" % (name, m.code, m.tokens / code, 100 * m.blank / lines, 100 * m.comment / lines,
                                                   100 * m.conditionals / code)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=pathlib.Path, default=[ROOT / "quell"])
    parser.add_argument("--worst", type=int, default=15, help="files of at least 40 lines of code to name")
    args = parser.parse_args()

    files = {path: measure(path) for folder in args.folders for path in sorted(folder.rglob("*")) if path.suffix in (".h", ".cpp", ".cc")}
    groups = collections.defaultdict(list)
    for path, m in files.items():
        for folder in args.folders:
            if path.is_relative_to(folder):
                groups[path.relative_to(folder).parts[0] if len(path.relative_to(folder).parts) > 1 else "."].append(m)
    total = lambda measures: Measure(*(sum(values) for values in zip(*measures)))

    print("%-44s %7s %8s %10s %10s %8s" % ("", "lines", "tokens/", "blank", "comment", "?: per"))
    print("%-44s %7s %8s %10s %10s %8s" % ("", "of code", "line", "", "", "100"))
    for name in sorted(groups):
        print(row(name, total(groups[name])))
    print(row("all", total(files.values())))
    print()
    densest = sorted((item for item in files.items() if item[1].code >= 40), key=lambda item: -item[1].tokens / item[1].code)
    for path, m in densest[:args.worst]:
        print(row(str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path), m))


if __name__ == "__main__":
    main()
