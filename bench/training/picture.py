#!/usr/bin/env python3
"""Charts of `quell report --training` side by side in one SVG, for documents.

  bench/training/picture.py QUELL OUT.svg --run NAME=DIRECTORY [--run ...] --charts loss spearman
"""
import argparse
import html
import pathlib
import re
import subprocess
import tempfile

WIDTH, HEIGHT = 500, 230  # of a chart, as the page draws it
HEAD = 52  # pixels above the charts: their names, and the runs' colours


def plain_style(style):
    """The light colours written out, for viewers of SVG that know no variables."""
    style = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^}]*\})*[^}]*\}", "", style)
    colours = dict(re.findall(r"--([a-z0-9]+):(#[0-9a-f]+)", style))
    curves = "".join(".c%d.curve,.c%d .curve,.c%d.ring{stroke:%s}.c%d.dot,.c%d .dot{fill:%s}" % (n, n, n, colours["c%d" % n], n, n, colours["c%d" % n])
                     for n in range(8))
    style = "".join(re.findall(r"\.(?:axis|tick|curve|thin|dot|ring)[^{}]*\{[^}]*\}|svg text[^{}]*\{[^}]*\}", style))
    style = style.replace("stroke:var(--curve);", "").replace("fill:var(--curve)", "") + curves
    style += "svg text{font:12px system-ui,sans-serif;fill:var(--soft)}svg text.name{font-weight:600;font-size:14px;fill:var(--ink)}"
    return re.sub(r"var\(--([a-z0-9]+)\)", lambda m: colours[m.group(1)], style)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quell")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--run", action="append", required=True, help="NAME=DIRECTORY")
    parser.add_argument("--charts", nargs="+", required=True)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        links, names = [], []
        for number, run in enumerate(args.run):
            name, _, directory = run.partition("=")
            link = pathlib.Path(scratch) / ("%d" % number)
            link.symlink_to(pathlib.Path(directory).resolve())
            links.append(link)
            names.append(name)
        page = pathlib.Path(scratch) / "page.html"
        subprocess.run([args.quell, "report", "--training", *links, "--output", page], check=True, stdout=subprocess.DEVNULL)
        text = page.read_text()

    style = plain_style(re.search(r"<style>(.*?)</style>", text, re.S).group(1))
    charts = dict(re.findall(r"<figcaption>([^<]*)</figcaption>\s*(<svg viewBox.*?</svg>)", text, re.S))
    parts = []
    for number, name in enumerate(args.charts):
        inner = re.sub(r"^<svg[^>]*>|</svg>$", "", charts[name].strip())
        left = number * WIDTH
        parts.append('<text class="name" x="%d" y="20">%s</text><g transform="translate(%d %d)">%s</g>' % (left + 52, html.escape(name), left, HEAD, inner))
    left = 52
    for number, name in enumerate(names):
        parts.append('<g class="c%d"><path class="curve" d="M%d 38h20"/></g><text x="%d" y="42">%s</text>' % (number, left, left + 26, html.escape(name)))
        left += 50 + 7 * len(name)

    width = WIDTH * len(args.charts)
    args.out.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">\n<style>%s</style>\n'
                        '<rect width="100%%" height="100%%" fill="#fff"/>\n%s\n</svg>\n' % (width, HEAD + HEIGHT, width, HEAD + HEIGHT, style, "\n".join(parts)))


if __name__ == "__main__":
    main()
