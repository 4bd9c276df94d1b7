#!/usr/bin/env python3
"""The gate's life under load: reloads, hand-overs and pools, with every answer looked at.

    python3 benches/life.py [--gate PATH] [--times 10] [--clients 8]

Wants Linux and Python's standard library. Builds the release binary unless --gate names one. Against one gate run, all
the time: clients with a new connection for each request, in clear and over TLS; clients that keep theirs, in clear and
over TLS; WebSocket tunnels that echo; downloads that take seconds. Meanwhile, one phase after the other:

- nothing, for comparison;
- SIGHUP, each with another config;
- the certificate replaced (watched: no signal);
- SIGUSR2, with as many workers as before;
- SIGUSR2, each with another number of workers;
- an upstream that leaves octets behind its answers, ends connections without a word, or says that it will.

Good is: refused, reset, failed, mixed and cut are 0 in every row. Refused: a connection that was not taken. Reset: one
that ended where an answer was due. Failed: another answer than 200. Mixed: an answer that belongs to another request.
Cut: a tunnel or a download that the gate ended. Each answer repeats a number that its request carried.
"""

import argparse
import asyncio
import collections
import itertools
import json
import os
import pathlib
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HTTP, HTTPS, ADMIN, REGISTRY, ORIGIN, DIRTY = range(21301, 21307)
FILED, DIRTY_HOST = "filed.cn", "dirty.filed.cn"
# How long an answer may take, and how long a phase's last event may take to be over.
PATIENCE, SETTLE = 20, 60
# Between events.
PAUSE = 0.5
TUNNELS, DOWNLOADS = 8, 4
DOWNLOAD_PIECES, PIECE, PIECE_PAUSE = 30, b"d" * 16384, 0.05
LEFT_BEHIND = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nWRONG"
PROBLEMS = ["refused", "reset", "failed", "mixed", "cut"]

CONFIG = """
provider = "example-cloud"
workers = {workers}
[[listener]]
address = "127.0.0.1:{http}"
protocol = "http"
[[listener]]
address = "127.0.0.1:{https}"
protocol = "https"
[tls]
directory = "certs"
[development]
certificates = ["{filed}", "*.{filed}"]
[[site]]
hosts = ["{dirty_host}"]
upstreams = ["http://127.0.0.1:{dirty}"]
[[site]]
hosts = ["{filed}"]
upstreams = ["http://127.0.0.1:{origin}"]
request_headers = {{ set = {{ "x-turn" = "{turn}" }} }}
[registry.embedded]
address = "127.0.0.1:{registry}"
database = "sqlite:registry.db"
[cache]
directory = "state"
[limits]
drain_timeout = "60s"
connections_per_client = 100000
[log]
access = "off"
[admin]
address = "127.0.0.1:{admin}"
"""


# --- upstreams, in a process of their own ---------------------------------------------------------------------------

async def head_of(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.rstrip().split("\r\n")
    return line.split(" ")[1], {name.lower(): value.strip() for name, value in (it.split(":", 1) for it in lines)}


def answer(body, more=b""):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), more) + body


async def origin(reader, writer):
    try:
        while True:
            path, fields = await head_of(reader)
            if fields.get("upgrade") == "websocket":
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                while octets := await reader.read(4096):
                    writer.write(octets)
                return
            if path.startswith("/download"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (DOWNLOAD_PIECES * len(PIECE)))
                for _ in range(DOWNLOAD_PIECES):
                    writer.write(PIECE)
                    await writer.drain()
                    await asyncio.sleep(PIECE_PAUSE)
                continue
            writer.write(answer(path.encode()))
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def dirty(reader, writer):
    """Answers as it should, and then spoils the connection in one of several ways, or does not."""
    try:
        for turn in itertools.count():
            path, _ = await head_of(reader)
            way = turn % 5
            said = answer(path.encode(), b"Connection: close\r\n" if way == 3 else b"")
            # With the answer: what comes once the next request is on its way can't be told from that one's answer.
            writer.write(said + (LEFT_BEHIND if way == 4 else b""))
            await writer.drain()
            if way in (2, 3):
                return
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def serve_upstreams():
    async def serve():
        servers = [await asyncio.start_server(handler, "127.0.0.1", port, backlog=1024)
                   for handler, port in [(origin, ORIGIN), (dirty, DIRTY)]]
        await asyncio.gather(*(server.serve_forever() for server in servers))
    asyncio.run(serve())


# --- clients --------------------------------------------------------------------------------------------------------

class Seen:
    """What one phase saw."""

    def __init__(self):
        self.counts = collections.Counter()
        self.times = []
        self.notes = []

    def problem(self, kind, what):
        self.counts[kind] += 1
        if len(self.notes) < 20:
            self.notes.append(f"{kind}: {what}")


class Load:
    def __init__(self):
        self.seen, self.stopped, self.numbers = Seen(), False, itertools.count()
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE

    async def connect(self, is_tls):
        try:
            more = {"ssl": self.tls, "server_hostname": FILED} if is_tls else {}
            opened = asyncio.open_connection("127.0.0.1", HTTPS if is_tls else HTTP, **more)
            reader, writer = await asyncio.wait_for(opened, PATIENCE)
            self.seen.counts["connections"] += 1
            return reader, writer
        except (OSError, asyncio.TimeoutError) as error:
            self.seen.problem("refused", repr(error))
            await asyncio.sleep(0.05)
            return None, None

    async def ask(self, reader, writer, host, last):
        """One request; whether the connection goes on."""
        path, began = f"/{next(self.numbers)}", time.monotonic()
        close = "Connection: close\r\n" if last else ""
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            line, *lines = head.decode("latin-1").rstrip().split("\r\n")
            fields = {name.lower(): value.strip() for name, value in (it.split(":", 1) for it in lines)}
            body = await asyncio.wait_for(reader.readexactly(int(fields.get("content-length", 0))), PATIENCE)
        except (OSError, EOFError, ssl.SSLError, asyncio.TimeoutError) as error:
            self.seen.problem("reset", f"{path}: {error!r}")
            return False
        self.seen.counts["requests"] += 1
        self.seen.times.append(time.monotonic() - began)
        if not line.startswith("HTTP/1.1 200"):
            self.seen.problem("failed", f"{path}: {line}")
        elif body != path.encode():
            self.seen.problem("mixed", f"{path}: {body[:40]!r}")
        return not last and fields.get("connection", "").lower() != "close"

    async def client(self, is_tls, host, is_new):
        while not self.stopped:
            reader, writer = await self.connect(is_tls)
            if not reader:
                continue
            while await self.ask(reader, writer, host, is_new) and not self.stopped:
                pass
            writer.transport.abort()

    async def tunnel(self):
        """Echoes until the end; after a hand-over the old process keeps it. Only an end by the gate is one."""
        while not self.stopped:
            reader, writer = await self.connect(False)
            if not reader:
                continue
            try:
                writer.write(f"GET /ws HTTP/1.1\r\nHost: {FILED}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                if b" 101 " not in head:
                    self.seen.problem("failed", head[:40])
                    continue
                # Shorter than what a drain leaves it, so that none is ended by the clock.
                for turn in range(400):
                    word = b"echo %8d" % turn
                    writer.write(word)
                    if await asyncio.wait_for(reader.readexactly(len(word)), PATIENCE) != word:
                        self.seen.problem("mixed", "a tunnel's octets")
                    self.seen.counts["echoes"] += 1
                    await asyncio.sleep(0.05)
                    if self.stopped:
                        break
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                self.seen.problem("cut", f"a tunnel: {error!r}")
            writer.transport.abort()

    async def download(self):
        while not self.stopped:
            reader, writer = await self.connect(False)
            if not reader:
                continue
            try:
                writer.write(f"GET /download HTTP/1.1\r\nHost: {FILED}\r\nConnection: close\r\n\r\n".encode())
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                octets = len(await asyncio.wait_for(reader.read(), PATIENCE)) if b" 200 " in head else 0
                while octets and (more := await asyncio.wait_for(reader.read(1 << 20), PATIENCE)):
                    octets += len(more)
                if octets != DOWNLOAD_PIECES * len(PIECE):
                    self.seen.problem("cut", f"a download after {octets} octets")
                self.seen.counts["downloads"] += 1
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                self.seen.problem("cut", f"a download: {error!r}")
            writer.transport.abort()


# --- the gate -------------------------------------------------------------------------------------------------------

def call(port, path, method="GET", body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, data=body)
    if body:
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.read()


def status():
    return json.loads(call(ADMIN, "/v1/status"))


async def until(what, ready):
    """Waits for something to come true; in a thread, for the clients go on."""
    end = time.monotonic() + SETTLE
    while time.monotonic() < end:
        try:
            if value := await asyncio.to_thread(ready):
                return value
        except (OSError, urllib.error.URLError):
            pass
        await asyncio.sleep(0.05)
    sys.exit(f"waited in vain for {what}")


class Gate:
    def __init__(self, binary, work):
        self.binary, self.work, self.turn, self.workers = binary, work, 0, 2
        self.write()
        self.log = open(work / "gate.log", "wb")
        self.process = subprocess.Popen([binary, "run", "-c", "gate.toml"], cwd=work, stdout=self.log, stderr=self.log)
        self.pid = self.process.pid

    def write(self):
        self.turn += 1
        text = CONFIG.format(
            http=HTTP, https=HTTPS, admin=ADMIN, registry=REGISTRY, origin=ORIGIN, dirty=DIRTY, filed=FILED,
            dirty_host=DIRTY_HOST, turn=self.turn, workers=self.workers,
        )
        (self.work / "gate.toml").write_text(text)

    async def ready(self):
        await until("the gate", lambda: call(ADMIN, "/healthz"))
        document = {"number": "京ICP备20000001号-1", "access": {"example-cloud": "active"}}
        call(REGISTRY, f"/v1/filings/{FILED}", "PUT", json.dumps(document).encode())
        verdict = f"/v1/verdict?host={FILED}"
        await until("the filing", lambda: json.loads(call(ADMIN, verdict))["verdict"] in ("allow", "no_site"))

    async def reload(self):
        self.write()
        before = (status().get("reload") or {}).get("at")
        os.kill(self.pid, signal.SIGHUP)
        done = await until("the reload", lambda: (it := status().get("reload")) and it["at"] != before and it)
        if not done["is_in_force"]:
            sys.exit(f"the reload was refused: {done['error']}")

    async def renew(self):
        """Another certificate of the same names, as a renewal leaves it: both files replaced by a rename."""
        before = (status().get("reload") or {}).get("at")
        for kind in ("key", "crt"):
            (self.work / "certs" / f"development.{kind}").with_suffix(f".{kind}").touch()
        names = sorted(it.name for it in (self.work / "certs").iterdir())
        if not any(name.endswith(".crt") for name in names):
            sys.exit(f"no certificate in {names}")
        await until("the certificate", lambda: (it := status().get("reload")) and it["at"] != before)

    async def hand_over(self, workers=None):
        self.workers = workers or self.workers
        self.write()
        old = self.pid
        os.kill(old, signal.SIGUSR2)
        self.pid = await until("the new process", lambda: (pid := status()["pid"]) != old and pid)

    def end(self):
        for pid in {self.pid, self.process.pid}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


# --- the measurement ------------------------------------------------------------------------------------------------

def row(name, events, seconds, seen):
    counts, times = seen.counts, sorted(seen.times)
    p99 = times[len(times) * 99 // 100] * 1000 if times else 0
    cells = [name, events, f"{seconds:.0f}", counts["requests"], counts["connections"], counts["echoes"],
             counts["downloads"], *(counts[kind] for kind in PROBLEMS), f"{p99:.0f}"]
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
    for note in seen.notes:
        print(f"    {note}", file=sys.stderr, flush=True)
    return sum(counts[kind] for kind in PROBLEMS)


async def measure(gate, options):
    await gate.ready()
    load = Load()
    each = max(1, options.clients // 4)
    clients = [load.client(is_tls, FILED, is_new) for _ in range(each) for is_tls in (False, True) for is_new in (True, False)]
    tasks = [asyncio.create_task(it) for it in clients]
    tasks += [asyncio.create_task(load.tunnel()) for _ in range(TUNNELS)]
    tasks += [asyncio.create_task(load.download()) for _ in range(DOWNLOADS)]
    await asyncio.sleep(1)
    numbers = itertools.cycle([1, 3, 4, 2])

    async def nothing():
        await asyncio.sleep(PAUSE)

    phases = [
        ("nothing", nothing), ("SIGHUP", gate.reload), ("certificate replaced", gate.renew),
        ("SIGUSR2", gate.hand_over), ("SIGUSR2, other workers", lambda: gate.hand_over(next(numbers))),
    ]
    print("| while | times | s | requests | connections | echoes in tunnels | downloads | " + " | ".join(PROBLEMS) + " | p99 ms |")
    print("| --- " * (8 + len(PROBLEMS)) + "|", flush=True)
    problems = 0
    for name, event in phases:
        load.seen, began = Seen(), time.monotonic()
        for _ in range(options.times):
            await event()
            await asyncio.sleep(PAUSE)
        # What the last event set off is part of it: kept connections end within five seconds.
        await asyncio.sleep(6 if event not in (nothing,) else 1)
        problems += row(name, options.times, time.monotonic() - began, load.seen)
    load.seen, began = Seen(), time.monotonic()
    spoilt = [asyncio.create_task(load.client(False, DIRTY_HOST, False)) for _ in range(4)]
    await asyncio.sleep(PAUSE * options.times + 6)
    load.stopped = True
    await asyncio.wait(tasks + spoilt, timeout=PATIENCE)
    problems += row("upstream that spoils connections", "–", time.monotonic() - began, load.seen)
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", help="a binary [default: builds target/release/beian-gate]")
    parser.add_argument("--times", type=int, default=10, help="events of a phase [10]")
    parser.add_argument("--clients", type=int, default=8, help="clients, beside tunnels and downloads [8]")
    parser.add_argument("--upstreams", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstreams:
        return serve_upstreams()
    root = pathlib.Path(__file__).resolve().parent.parent
    if not options.gate:
        subprocess.run(["cargo", "build", "--release"], cwd=root, check=True)
    binary = pathlib.Path(options.gate or root / "target/release/beian-gate").resolve()
    with tempfile.TemporaryDirectory() as work:
        upstreams = subprocess.Popen([sys.executable, __file__, "--upstreams"])
        gate = Gate(binary, pathlib.Path(work))
        try:
            problems = asyncio.run(measure(gate, options))
        finally:
            gate.end()
            upstreams.kill()
            upstreams.wait()
            if sys.exc_info()[0]:
                print(pathlib.Path(work, "gate.log").read_text()[-3000:], file=sys.stderr)
    print("good" if not problems else f"{problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
