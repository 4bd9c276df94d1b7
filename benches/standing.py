"""Rows of side_by_side.py that need no load: what the filings take in memory, how long a start takes, a reload, and one
filing more. Each proxy is alone then, and may use both processors.

A start is from nothing to the answer for a filed name: nginx and HAProxy read their map, the gate the state that it saved;
its registry is a process of its own, which the gate needs for none of this but `added`. Memory is what the proxy takes
some seconds after that, above what it takes without filings. A reload is from the signal until what the new files say is
seen: peers read a map with one name more, the gate a config with one exception more. `added` is one filing more, without
a reload where there is such a way: the gate's registry, HAProxy's `add map`; nginx has none but the reload.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import side_by_side as beside

ROWS = ("memory", "start", "reload", "added")
# nginx takes minutes with ten million names.
LONGEST = 1_800
# After the start: what it took for a moment is given back.
SETTLE = 12
LOOK = 0.002
BOTH = "0-1"
CLEAR = {proxy: ports[beside.CLEAR] for proxy, ports in beside.PORTS.items()}


def configs(work):
    """Beside those of the other rows: the same without filings, and a gate that follows a registry in another process."""
    with open(f"{work}/gate.toml", encoding="utf-8") as file:
        text = file.read()
    beside.write(f"{work}/registry.toml", text)
    follows, found = re.subn(r"\[registry\.embedded\]\n.*\n.*\n", f'[registry]\nurl = "http://127.0.0.1:{beside.REGISTRY}"\n', text)
    if found != 1:
        sys.exit("gate.toml has no [registry.embedded]")
    exception = f'[enforcement]\nexceptions = [{{ host = "{beside.NAME}", reason = "no filings are held", owner = "bench" }}]\n'
    beside.write(f"{work}/gate-standing.toml", follows)
    beside.write(f"{work}/gate-empty.toml", follows.replace(f"{work}/gate\"", f"{work}/gate-empty\"").replace(f":{beside.REGISTRY}\"", f":{beside.REGISTRY + 6}\"") + exception)
    for kind, config, line in (("nginx", "nginx.conf", f".{beside.NAME} 1;\n"), ("haproxy", "haproxy.cfg", f"{beside.NAME} 1\n")):
        beside.write(f"{work}/map.{kind}.empty", line)
        with open(f"{work}/{config}", encoding="utf-8") as file:
            beside.write(f"{work}/empty.{config}", file.read().replace(f"{work}/map.{kind}", f"{work}/map.{kind}.empty"))


def command(work, gate, proxy, is_empty):
    if proxy == "nginx":
        return ["nginx", "-c", f"{work}/{'empty.' if is_empty else ''}nginx.conf", "-p", work]
    if proxy == "haproxy":
        return ["haproxy", "-W", "-f", f"{work}/{'empty.' if is_empty else ''}haproxy.cfg"]
    return [gate, "run", "-c", f"{work}/gate-{'empty' if is_empty else 'standing'}.toml"]


def forwards(proxy, host):
    """Whether a request of that name goes to the origin. `None`: nobody answers."""
    try:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", CLEAR[proxy], timeout=10)) as connection:
            connection.request("GET", "/1k", headers={"Host": host})
            return connection.getresponse().status == 200
    except OSError:
        return None


def until(what, process, check):
    """Seconds until it holds."""
    begun = time.monotonic()
    while not check():
        if process.poll() is not None:
            sys.exit(f"{what}: it ended with {process.returncode}")
        if time.monotonic() - begun > LONGEST:
            sys.exit(f"{what}: not after {LONGEST} s")
        time.sleep(LOOK)
    return time.monotonic() - begun


@contextlib.contextmanager
def running(run, log):
    process = beside.start(run, BOTH, log)
    try:
        yield process
    finally:
        beside.stop({"it": process})


class Peak:
    """The most memory that a process and its children took meanwhile, in KiB."""

    def __init__(self, process):
        self.most, self.is_over = 0, threading.Event()
        self.looking = threading.Thread(target=self.look, args=[process])

    def look(self, process):
        while True:
            # A worker that ends while it is looked at is none.
            with contextlib.suppress(OSError, AttributeError):
                self.most = max(self.most, beside.memory_kib(process.pid))
            if self.is_over.wait(0.2):
                return

    def __enter__(self):
        self.looking.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.looking.join()


def save_once(work, gate, log):
    """The state that the gate starts from, made by a first run that takes the registry's snapshot."""
    if os.path.exists(f"{work}/gate/filings.state"):
        return
    with running(command(work, gate, "gate", False), log) as process:
        until("the first snapshot", process, lambda: forwards("gate", beside.NAME))
        until("the saved state", process, lambda: os.path.exists(f"{work}/gate/filings.state"))


def signalled(process, proxy, host):
    """Seconds from the signal until that name is forwarded."""
    process.send_signal(signal.SIGUSR2 if proxy == "haproxy" else signal.SIGHUP)
    return until(f"{proxy}'s reload", process, lambda: forwards(proxy, host))


def reload(work, process, proxy):
    """What is asked for has a name of its own each time: a file that was left longer is no harm."""
    host = f"reload-{time.time_ns()}.cn"
    path = f"{work}/gate-standing.toml" if proxy == "gate" else f"{work}/map.{proxy}"
    size = os.path.getsize(path)
    with open(path, "a", encoding="utf-8") as file:
        file.write({"nginx": f".{host} 1;\n", "haproxy": f"{host} 1\n",
                    "gate": f'[enforcement]\nexceptions = [{{ host = "{host}", reason = "a reload", owner = "bench" }}]\n'}[proxy])
    try:
        return signalled(process, proxy, host)
    finally:
        os.truncate(path, size)


def added(work, process, proxy):
    """Seconds from the command until the name is forwarded. `None` where there is none."""
    host = f"added-{time.time_ns()}.cn"
    if proxy == "gate":
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", beside.REGISTRY, timeout=60)) as registry:
            ask = lambda method, path, body=None: (registry.request(method, path, body, {"Content-Type": "application/json"}), registry.getresponse())[1]
            begun = time.monotonic()
            answer = ask("PUT", f"/v1/filings/{host}", json.dumps({"number": "京ICP备99999999号-1", "access": {"example-cloud": "active"}}).encode())
            said = answer.read()
            if answer.status not in (200, 201):
                sys.exit(f"the registry said {answer.status}: {said[:300]}")
            until("the change", process, lambda: forwards(proxy, host))
            took = time.monotonic() - begun
            ask("DELETE", f"/v1/filings/{host}?purge=true").read()
            return took
    if proxy == "haproxy":
        begun = time.monotonic()
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(f"{work}/haproxy.sock")
            admin.sendall(f"add map {work}/map.haproxy {host} 1\n".encode())
            admin.recv(4096)
        until("the change", process, lambda: forwards(proxy, host))
        return time.monotonic() - begun
    return None


def life(work, gate, proxy, log):
    """One start without filings and one with them; the figures of all four rows."""
    with running(command(work, gate, proxy, True), log) as process:
        until(f"{proxy} without filings", process, lambda: forwards(proxy, beside.NAME))
        time.sleep(SETTLE)
        empty = beside.memory_kib(process.pid)
    begun = time.monotonic()
    with running(command(work, gate, proxy, False), log) as process:
        until(proxy, process, lambda: forwards(proxy, beside.NAME))
        start, used = time.monotonic() - begun, beside.cpu(process.pid)[0]
        time.sleep(SETTLE)
        full = beside.memory_kib(process.pid)
        # With many filings the rest takes minutes.
        print(f"{proxy}: start {start:.3f} s, {used:.2f} s of CPU; {(full - empty) / 1024:.1f} MiB more than without filings", file=sys.stderr)
        one = added(work, process, proxy)
        with Peak(process) as peak:
            reloaded = reload(work, process, proxy)
        print(f"{proxy}: reload {reloaded:.3f} s, {peak.most / 1024:.0f} MiB at most; one filing more {one or reloaded:.4f} s", file=sys.stderr)
        figures = {"memory": (full - empty) / 1024, "start": start, "reload": reloaded, "added": reloaded if one is None else one}
        more = {"empty_mib": empty / 1024, "start_cpu_s": used, "peak_in_reload_mib": peak.most / 1024}
    return {row: {"figure": figure, "user": None, "system": None, "rate": None, "p50_ms": None, "p99_ms": None, "memory_mib": full / 1024} | more
            for row, figure in figures.items()}


def measure(work, gate, arguments, log):
    """By row and proxy, what each round gave."""
    configs(work)
    rounds = {row: {proxy: [] for proxy in arguments.proxies} for row in ROWS}
    with running([gate, "registry", "serve", "-c", f"{work}/registry.toml"], log) as registry:
        beside.wait_for(lambda: socket.create_connection(("127.0.0.1", beside.REGISTRY), 1).close() is None, "the registry", registry, log)
        if "gate" in arguments.proxies:
            save_once(work, gate, log)
        for _ in range(arguments.rounds):
            for proxy in arguments.proxies:
                lived = life(work, gate, proxy, log)
                for row, one in lived.items():
                    rounds[row][proxy].append(one)
    return rounds

