#!/usr/bin/env python3
"""What a request costs as the work grows: filings, connections, sites, workers. CPU of the gate and of nginx, plotted.

    python3 benches/growth.py [--axes filings,connections,sites,workers] [--rounds 2] [--seconds 2] [--gate PATH]
    python3 benches/growth.py --axes filings --sizes 10000000 --data /var/tmp/beside   # minutes: the import, and nginx' map

Points that were measured stay in growth.json until they are measured again, so that a long run can be had in parts; --data
is as in side_by_side.py.

The work of each point is the first row of side_by_side.py (HTTP/1.1 keep-alive, 1 KiB, 20,000 hosts in turn, filings
checked), with one thing made larger; wants what that script wants. Of more than 8,000 connections 256 have a request
under way at any time, each connection in its turn; there are as many as a process may have descriptors. Writes growth.json and growth.svg into --out after each point. Both keep 256 connections to the upstream
(`keep.idle`, `keepalive`). A site is a [[site]] table of the gate's; nginx has a map from names to upstreams and goes by
that, for 100,000 server blocks take it longer than three minutes to read. Workers have processor 0, but for the axis `workers`, where all have both processors, which the load has as well:
there only what one and two workers cost against each other says something.
"""

import argparse
import itertools
import json
import math
import os
import re
import resource
import select
import socket
import statistics
import subprocess
import sys
import time

import side_by_side as beside

# Above this not all connections have a request under way, but so many at any time, each in its turn: a proxy needs two
# descriptors for such a one, and a process may have 20,000 on many machines.
MOST_AT_ONCE, AT_ONCE = 8_000, 256
# Descriptors of a process that are not its clients' connections.
OTHER_DESCRIPTORS = 600
# In nginx' config; more only where they are wanted, for it allocates them all.
WORKER_CONNECTIONS = "worker_connections 16384;"
AXES = {
    "filings": ("filings", [10_000, 100_000, 1_000_000]),
    "connections": ("connections", [10, 100, 1_000, 8_000, 20_000]),
    "sites": ("sites", [1, 100, 10_000, 100_000]),
    "workers": ("workers", [1, 2]),
}
COLOURS = {"gate": "#d50", "nginx": "#488"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--sizes", help="other sizes than those of the axis; for one axis")
    parser.add_argument("--data", help="a directory that keeps what is made of the names")
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


def filings_of(axis, size):
    return size if axis == "filings" else 100_000 if axis == "sites" else 20_000


def set_up(work, axis, size):
    """Makes the configs those of one point; gives the number of connections."""
    # As many as nginx keeps in its config here.
    rewrite(f"{work}/gate.toml", ("[default_site]\n", "[default_site]\nkeep.idle = 256\n"))
    if axis == "sites" and size > 1:
        sites = beside.names(filings_of(axis, size))[:size]
        tables = "".join(f'[[site]]\nhosts = ["{name}", "*.{name}"]\nupstreams = ["http://127.0.0.1:{beside.ORIGIN}"]\n' for name in sites)
        rewrite(f"{work}/gate.toml", ("[default_site]\n", f"{tables}[default_site]\n"))
        beside.write(f"{work}/sites.nginx", "".join(f".{name} origin;\n" for name in sites))
        rewrite(f"{work}/nginx.conf", ("proxy_pass http://origin;", "proxy_pass http://$site;"),
                ("upstream origin {", f"map $host $site {{ hostnames; default origin; include {work}/sites.nginx; }}\nupstream origin {{"))
    if axis == "workers" and size > 1:
        rewrite(f"{work}/gate.toml", ("workers = 1\n", f"workers = {size}\n"))
        rewrite(f"{work}/nginx.conf", ("worker_processes 1;", f"worker_processes {size};"))
    if axis != "connections":
        return 64
    if size > MOST_AT_ONCE // 2:
        for config in ("nginx", "origin"):
            rewrite(f"{work}/{config}.conf", (WORKER_CONNECTIONS, f"worker_connections {2 * size};"))
    if size > MOST_AT_ONCE:
        size = min(size, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_DESCRIPTORS)
        print(f"{size:,} connections", file=sys.stderr)
    return size


def in_turn(work, port, seconds, connections):
    """Runs in a process of its own: opens connections, waits for a line of input, and asks on them in turn, AT_ONCE at a
    time, each always for the same name. Says how many requests were answered."""
    with open(f"{work}/hosts", encoding="utf-8") as file:
        hosts = [line.strip() for line in file]
    events, held, place = select.epoll(), [], {}
    for number in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        place[sock.fileno()] = number
        events.register(sock.fileno(), select.EPOLLIN)
        held.append([sock, f"GET /1k HTTP/1.1\r\nHost: {hosts[number % len(hosts)]}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".encode(), 0])
    print("ready", flush=True)
    sys.stdin.readline()
    turn, done, until = itertools.cycle(held), 0, time.monotonic() + seconds
    for _ in range(AT_ONCE):
        one = next(turn)
        one[0].sendall(one[1])
    while time.monotonic() < until:
        for number, _ in events.poll(1):
            one = held[place[number]]
            octets = one[0].recv(65536)
            if not octets or (one[2] == 0 and not octets.startswith(b"HTTP/1.1 200")):
                sys.exit(f"refused: {octets[:200]}")
            one[2] += len(octets)
            # Head and body come in one piece or in two.
            if one[2] >= 1024:
                one[2], done, following = 0, done + 1, next(turn)
                following[0].sendall(following[1])
    print(done)


def measure_in_turn(work, proxy, process, connections, cpus, seconds):
    port = str(beside.PORTS[proxy][beside.CLEAR])
    client = subprocess.Popen(["taskset", "-c", cpus, sys.executable, os.path.abspath(__file__), "in_turn", work, port, str(seconds), str(connections)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if client.stdout.readline() != "ready\n":
        sys.exit(f"{proxy}: the connections were not made")
    before = beside.cpu(process.pid)[0]
    said = client.communicate("go\n", timeout=seconds + 60)[0]
    if client.returncode:
        sys.exit(f"{proxy}: {said}")
    return (beside.cpu(process.pid)[0] - before) / int(said) * 1e6


def measure(work, proxy, process, connections, cpus, seconds):
    if connections > MOST_AT_ONCE:
        return measure_in_turn(work, proxy, process, connections, cpus, seconds)
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
    proxies, processes = ["gate", "nginx"], {}
    of_names = argparse.Namespace(filings=filings_of(axis, size), data=arguments.data)
    with beside.made(of_names) as work, open(os.path.join(work, "processes.log"), "w", encoding="utf-8") as log:
        connections = set_up(work, axis, size)
        beside.imported(work, gate, ["gate"], log)
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
    if sys.argv[1:2] == ["in_turn"]:
        return in_turn(sys.argv[2], *map(int, sys.argv[3:]))
    arguments = parse_arguments()
    beside.require_tools()
    # Of this process and all that it starts.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
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
        for size in [int(size) for size in arguments.sizes.split(",")] if arguments.sizes else AXES[axis][1]:
            measured = point(gate, axis, size, arguments)
            print(f"{axis} {size:,}: {measured}", file=sys.stderr)
            points = results.get(axis, {}) | {str(size): measured}
            results[axis] = dict(sorted(points.items(), key=lambda one: int(one[0])))
            beside.write(kept, json.dumps(results, indent=1))
            beside.write(os.path.join(arguments.out, "growth.svg"), plot(results))
    print(table(results))


if __name__ == "__main__":
    main()
