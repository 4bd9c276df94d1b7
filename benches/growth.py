#!/usr/bin/env python3
"""What a request costs as the work grows: filings, connections, sites, workers. CPU of the gate and of nginx, plotted.

    python3 benches/growth.py [--axes filings,connections,sites,workers] [--rounds 2] [--seconds 2] [--gate PATH]
    python3 benches/growth.py --axes filings --filings 10000,1000000,10000000      # takes many minutes: nginx' map and the import

The work of each point is the first row of side_by_side.py (HTTP/1.1 keep-alive, 1 KiB, 20,000 hosts in turn, filings
checked), with one thing made larger; wants what that script wants. Writes growth.json and growth.svg into --out after each
axis. Workers have processor 0, but for the axis `workers`, where all have both processors, which the load has as well:
there only what one and two workers cost against each other says something.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile

import side_by_side as beside

# nginx keeps a whole server for each site: some 20 KiB.
MOST_SITES_OF_NGINX = 10_000
AXES = {
    "filings": ("filings", [10_000, 100_000, 1_000_000]),
    "connections": ("connections", [10, 100, 1_000, 8_000]),
    "sites": ("sites", [1, 100, 10_000, 100_000]),
    "workers": ("workers", [1, 2]),
}
COLOURS = {"gate": "#d50", "nginx": "#488"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--filings", default=",".join(str(count) for count in AXES["filings"][1]))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--gate", help="path of a beian-gate binary")
    parser.add_argument("--out", default="benches/out")
    return parser.parse_args()


def rewrite(path, *changes):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for old, new in changes:
        if old not in text:
            sys.exit(f"{path} has no {old!r}")
        text = text.replace(old, new)
    beside.write(path, text)


def set_up(work, axis, size):
    """Writes configs and data for one point; gives the number of connections."""
    filings = size if axis == "filings" else 100_000 if axis == "sites" else 20_000
    filed = beside.names(filings)
    beside.prepare(work, filed)
    beside.configs(work, filings)
    # As many as nginx keeps in its config here.
    rewrite(f"{work}/gate.toml", ("[default_site]\n", "[default_site]\nkeep.idle = 256\n"))
    listen = f"127.0.0.1:{beside.PORTS['nginx'][beside.CLEAR]}"
    if axis == "sites" and size > 1:
        sites = filed[:size]
        tables = "".join(f'[[site]]\nhosts = ["{name}", "*.{name}"]\nupstreams = ["http://127.0.0.1:{beside.ORIGIN}"]\n' for name in sites)
        rewrite(f"{work}/gate.toml", ("[default_site]\n", f"{tables}[default_site]\n"))
        with open(f"{work}/nginx.conf", encoding="utf-8") as file:
            location = re.search(r"location / \{ if \(\$filed = 0\) \{ return 451; \} proxy_pass http://origin;.*?internal; root [^}]*\}", file.read(), re.S).group(0)
        servers = "".join(f"server {{ listen {listen}; server_name .{name}; {location} }}\n" for name in sites[:MOST_SITES_OF_NGINX])
        rewrite(f"{work}/nginx.conf", ("server { listen " + listen + " default_server", f"server_names_hash_max_size 262144; server_names_hash_bucket_size 128;\n{servers}server {{ listen {listen} default_server"))
    if axis == "workers" and size > 1:
        rewrite(f"{work}/gate.toml", ("workers = 1\n", f"workers = {size}\n"))
        rewrite(f"{work}/nginx.conf", ("worker_processes 1;", f"worker_processes {size};"))
    return size if axis == "connections" else 64


def measure(work, proxy, process, connections, cpus, seconds):
    port = beside.PORTS[proxy][beside.CLEAR]
    # So many have to be opened first.
    seconds += connections // 1000
    command = ["taskset", "-c", cpus, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", f"{work}/plain.lua", f"http://127.0.0.1:{port}/1k"]
    before = beside.cpu(process.pid)[0]
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    used = beside.cpu(process.pid)[0] - before
    done = re.search(r"(\d+) requests in", run.stdout)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", run.stdout)
    if run.returncode or not done or not int(done.group(1)) or refused:
        sys.exit(f"{proxy}: {run.stdout[-500:]}{run.stderr[-500:]}")
    return used / int(done.group(1)) * 1e6


def point(gate, axis, size, arguments):
    """Microseconds of CPU a request, by proxy."""
    cpus = ("0-1", "0-1") if axis == "workers" else ("0", "1")
    proxies = ["gate"] + ([] if axis == "sites" and size > MOST_SITES_OF_NGINX else ["nginx"])
    processes = {}
    with tempfile.TemporaryDirectory() as work, open(os.path.join(work, "processes.log"), "w", encoding="utf-8") as log:
        os.chmod(work, 0o755)
        for directory in ("www", "tmp"):
            os.mkdir(f"{work}/{directory}")
        connections = set_up(work, axis, size)
        subprocess.run([gate, "registry", "import", f"{work}/filings.csv", "-c", f"{work}/gate.toml"], check=True, stdout=log, stderr=log)
        try:
            processes["origin"] = beside.start(["nginx", "-c", f"{work}/origin.conf", "-p", work], cpus[1], log)
            for proxy in proxies:
                command = ["nginx", "-c", f"{work}/nginx.conf", "-p", work] if proxy == "nginx" else [gate, "run", "-c", f"{work}/gate.toml"]
                processes[proxy] = beside.start(command, cpus[0], log)
            for proxy in proxies:
                port = beside.PORTS[proxy][beside.CLEAR]
                beside.wait_for(lambda port=port: beside.answers(port), proxy, processes[proxy], log)
            rounds = {proxy: [] for proxy in proxies}
            for number in range(arguments.rounds + 1):
                for proxy, figures in rounds.items():
                    figure = measure(work, proxy, processes[proxy], connections, cpus[1], arguments.seconds if number else 1)
                    # The first warms up.
                    if number:
                        figures.append(figure)
        finally:
            beside.stop(processes)
    return {proxy: statistics.median(figures) for proxy, figures in rounds.items()}


def plot(results):
    """A panel for each axis: microseconds upwards, the size to the right in powers of ten."""
    width, height, parts = 320, 220, []
    for number, (axis, points) in enumerate(results.items()):
        left, top = 60 + number * (width + 60), 40
        most = max(figure for by_proxy in points.values() for figure in by_proxy.values()) * 1.15
        sizes = [math.log10(int(size)) for size in points]
        across = lambda size: left + (math.log10(size) - sizes[0]) / max(sizes[-1] - sizes[0], 1e-9) * width
        up = lambda figure: top + height - figure / most * height
        parts.append(f'<text x="{left}" y="{top - 14}" font-weight="bold">{AXES[axis][0]}: µs of CPU a request</text>'
                     f'<path d="M{left} {top}V{top + height}H{left + width}" fill="none" stroke="#444"/>')
        for size in points:
            parts.append(f'<text x="{across(int(size)):.0f}" y="{top + height + 16}" text-anchor="middle">{int(size):,}</text>')
        for proxy, colour in COLOURS.items():
            line = [(across(int(size)), up(by_proxy[proxy]), by_proxy[proxy]) for size, by_proxy in points.items() if proxy in by_proxy]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in line)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            shift = -8 if proxy == "nginx" else 16
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/><text x="{x:.0f}" y="{y + shift:.0f}" text-anchor="middle" fill="{colour}">{figure:.1f}</text>' for x, y, figure in line]
    parts.append("".join(f'<text x="{60 + number * 80}" y="{height + 84}" fill="{colour}">{proxy}</text>' for number, (proxy, colour) in enumerate(COLOURS.items())))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{60 + len(results) * (width + 60)}" height="{height + 100}" font-family="sans-serif" font-size="12">'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n')


def table(results):
    lines = ["| what grows | size | gate, µs/request | nginx | ratio |", "|" + " --- |" * 5]
    for axis, points in results.items():
        for size, by_proxy in points.items():
            other = by_proxy.get("nginx")
            lines.append(f"| {AXES[axis][0]} | {int(size):,} | {by_proxy['gate']:.1f} | " + (f"{other:.1f} | {by_proxy['gate'] / other:.2f} |" if other else "– | – |"))
    return "\n".join(lines)


def main():
    arguments = parse_arguments()
    beside.require_tools()
    os.environ["PATH"] += ":/usr/sbin"
    axes = arguments.axes.split(",")
    if unknown := set(axes) - set(AXES):
        sys.exit(f"no such axis: {', '.join(sorted(unknown))}; there are {', '.join(AXES)}")
    gate = arguments.gate
    if not gate:
        subprocess.run(["cargo", "build", "--release"], check=True)
        gate = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release", "beian-gate")
    os.makedirs(arguments.out, exist_ok=True)
    kept, results = os.path.join(arguments.out, "growth.json"), {}
    if os.path.exists(kept):
        with open(kept, encoding="utf-8") as file:
            results = json.load(file)
    for axis in axes:
        sizes = [int(size) for size in arguments.filings.split(",")] if axis == "filings" else AXES[axis][1]
        results[axis] = {}
        for size in sizes:
            results[axis][str(size)] = point(gate, axis, size, arguments)
            print(f"{axis} {size:,}: {results[axis][str(size)]}", file=sys.stderr)
        beside.write(kept, json.dumps(results, indent=1))
        beside.write(os.path.join(arguments.out, "growth.svg"), plot(results))
    print(table(results))


if __name__ == "__main__":
    main()
