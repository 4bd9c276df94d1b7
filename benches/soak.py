#!/usr/bin/env python3
"""A soak: everything at once, for a long time, with every answer looked at.

    python3 benches/soak.py [--gate PATH] [--minutes 60] [--rate 200] [--no-floods]

Wants Linux and Python's standard library. Builds the release binary unless --gate names one. Against one gate run,
all the time: requests over HTTP/1.1, TLS and HTTP/2 for filed, unfiled and cancelled names, with bodies both ways;
names whose access is cancelled and given back every few seconds; WebSocket tunnels that must stay; an upstream that
refuses, cuts, hangs and talks nonsense; SIGHUP with another config; and floods, those of benches/floods.py: first each
of them once, which is what an allocator's largest extent comes from, then one of them now and then.

Good is: the same process, no request lost, none misjudged, no tunnel lost, each cancelled one ended, and memory and
descriptors that do not grow after the first tenth (of an hour: the floods' first round is over by then). Samples go to benches/out/soak.json, a plot to benches/out/soak.svg.
"""

import argparse
import asyncio
import collections
import hashlib
import json
import os
import pathlib
import random
import resource
import signal
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import floods
from floods import ADMIN, CLOSED, HTTP, HTTPS, PREFACE, REGISTRY, UPSTREAM, frame

ORIGIN, FAULTY = 21106, 21107
FILED, CANCELLED, UNFILED, FAULTS = "filed.cn", "cancelled.cn", "unfiled.cn", "faulty.cn"
CHURN = [f"churn-{number}.cn" for number in range(8)]
# How long after a change's commit it must be in force on a machine that also runs load, floods and this script.
GRACE = 2.0
# A request that takes longer is lost.
PATIENCE = 60
# What memory may grow by, from the second tenth to the last, beside a share of it.
GROWTH_BYTES, GROWTH_SHARE, GROWTH_DESCRIPTORS = 8 << 20, 0.1, 16
# Those that leave no descriptors for anybody are no part of it.
NO_FLOODS = {"idle", "descriptors"}
BODY = bytes(range(256)) * 256

CONFIG = """
provider = "example-cloud"
workers = 2
[[listener]]
address = "127.0.0.1:{http}"
protocol = "http"
[[listener]]
address = "127.0.0.1:{https}"
protocol = "https"
[tls]
directory = "certs"
[development]
certificates = [{names}]
[[site]]
hosts = ["{faults}"]
upstreams = ["http://127.0.0.1:{faulty}", "http://127.0.0.1:{closed}"]
[site.timeouts]
response = "2s"
[[site]]
hosts = ["refuses.{filed}"]
upstreams = ["http://127.0.0.1:{closed}"]
[[site]]
hosts = ["{filed}"]
upstreams = ["http://127.0.0.1:{origin}"]
[site.timeouts]
response = "30s"
[default_site]
upstreams = ["http://127.0.0.1:{origin}"]
[registry.embedded]
address = "127.0.0.1:{registry}"
database = "sqlite:registry.db"
[cache]
directory = "state"
[limits]
header_timeout = "5s"
body_timeout = "10s"
headers = {headers}
[log]
access = "access.log"
[admin]
address = "127.0.0.1:{admin}"
"""


def config(headers):
    names = ", ".join(f'"{name}"' for name in [FILED, CANCELLED, FAULTS, *CHURN])
    return CONFIG.format(
        http=HTTP, https=HTTPS, admin=ADMIN, registry=REGISTRY, origin=ORIGIN, faulty=FAULTY, closed=CLOSED,
        filed=FILED, faults=FAULTS, names=names, headers=headers,
    )


# --- upstreams, each a process of its own ---------------------------------------------------------------------------

async def read_request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.rstrip().split("\r\n")
    fields = {name.lower(): value.strip() for name, value in (field.split(":", 1) for field in lines)}
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    if fields.get("transfer-encoding"):
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return line, fields, body


async def origin(reader, writer):
    """Says what it was asked: host, path, and the body's hash; a large body where asked; echoes in tunnels."""
    try:
        while True:
            line, fields, body = await read_request(reader)
            path = line.split(" ")[1]
            if fields.get("upgrade") == "websocket":
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                while octets := await reader.read(4096):
                    writer.write(octets)
                return
            if path.startswith("/hang"):
                await reader.read()
                return
            if path.startswith("/large"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(BODY) * 16))
                for _ in range(16):
                    writer.write(BODY)
                    await writer.drain()
                continue
            told = json.dumps({"host": fields.get("host"), "path": path, "sha": hashlib.sha256(body).hexdigest()}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(told) + told)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        pass
    finally:
        writer.transport.abort()


async def faulty(reader, writer):
    """Answers in one of many wrong ways, and sometimes in the right one."""
    try:
        while True:
            await read_request(reader)
            fault = random.randrange(8)
            if fault == 0:
                return
            if fault == 1:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
                await writer.drain()
                return
            if fault == 2:
                await asyncio.sleep(5)
                return
            if fault == 3:
                writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
                return
            if fault == 4:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + (b"HTTP/1.1 200 OK\r\n" if fault == 5 else b""))
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        pass
    finally:
        writer.transport.abort()


async def serve(handler, port):
    server = await asyncio.start_server(handler, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


# --- what was seen --------------------------------------------------------------------------------------------------

class Seen:
    def __init__(self):
        self.requests = collections.Counter()
        self.wrong, self.lost, self.notes = 0, 0, collections.deque(maxlen=50)
        self.tunnels_cut, self.tunnels_ended, self.tunnels_stayed = 0, 0, 0
        self.reloads, self.flips, self.floods = 0, 0, collections.Counter()
        self.stopped = False

    def note(self, kind, what):
        setattr(self, kind, getattr(self, kind) + 1)
        self.notes.append(f"{kind}: {what}")
        print(f"{kind}: {what}", flush=True)


class Filings:
    """What the registry was told, and since when: what a request must be answered follows."""

    def __init__(self):
        self.is_active = {FILED: True, CANCELLED: False, FAULTS: True, **{name: True for name in CHURN}}
        self.changed = collections.defaultdict(float)
        self.number = {name: f"京ICP备{20000000 + at}号-1" for at, name in enumerate(self.is_active, 1)}

    def put(self, name, is_active):
        access = "active" if is_active else "cancelled"
        document = json.dumps({"number": self.number[name], "access": {"example-cloud": access}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{REGISTRY}/v1/filings/{name}", document, {"content-type": "application/json"}, method="PUT"
        )
        # From before the commit until it is everywhere, either answer is right.
        self.changed[name] = time.monotonic() + PATIENCE
        urllib.request.urlopen(request, timeout=PATIENCE).read()
        self.is_active[name] = is_active
        self.changed[name] = time.monotonic()

    def expected(self, name, began):
        """The status that a request which began then must have; none where either is right."""
        if name not in self.is_active:
            return 451
        if began < self.changed[name] + GRACE:
            return None
        return 200 if self.is_active[name] else 451


# --- clients --------------------------------------------------------------------------------------------------------

TLS = ssl.create_default_context()
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


async def connect(is_tls, name):
    if is_tls:
        return await asyncio.open_connection("127.0.0.1", HTTPS, ssl=TLS, server_hostname=name)
    return await asyncio.open_connection("127.0.0.1", HTTP)


async def ask(reader, writer, name, path, body):
    chunked = body is not None and random.random() < 0.5
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {name}\r\nAccept: text/plain\r\n"
    if body is None:
        writer.write(f"{head}\r\n".encode())
    elif chunked:
        half = len(body) // 2
        parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + parts + b"0\r\n\r\n")
    else:
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    body = await reader.readexactly(length)
    return int(head.split(" ")[1]), head, body


def judge(seen, filings, name, path, sent, began, answer):
    """Holds an answer against what it must be."""
    status, head, body = answer
    seen.requests[status] += 1
    if name == FAULTS:
        if status not in (200, 502, 503, 504) or (status != 200) != ("beian-verdict:" in head):
            seen.note("wrong", f"{name} {path}: {status}")
        return
    expected = filings.expected(name, began)
    if status not in (200, 451) or (expected and status != expected and filings.expected(name, began) == expected):
        seen.note("wrong", f"{name} {path}: {status} where {expected} is due")
    elif status == 451 and "beian-verdict:" not in head:
        seen.note("wrong", f"{name} {path}: 451 without a verdict")
    elif status == 200 and path.startswith("/large"):
        if body != BODY * 16:
            seen.note("wrong", f"{name} {path}: another body")
    elif status == 200:
        told = json.loads(body)
        if (told["host"], told["path"]) != (name, path) or told["sha"] != hashlib.sha256(sent or b"").hexdigest():
            seen.note("wrong", f"{name} {path}: the upstream was asked {told}")


async def client(seen, filings, is_tls, pause):
    """Requests over connections that are kept for a while."""
    names = [FILED, *CHURN, FAULTS, CANCELLED] + ([] if is_tls else [UNFILED])
    while not seen.stopped:
        fixed = random.choice(names) if is_tls else None
        reader = writer = None
        try:
            for _ in range(random.randrange(1, 200)):
                name = fixed or random.choice(names)
                path = random.choice(["/", "/a", "/b?c=d", "/large"] if name == FILED else ["/", "/x"])
                body = random.choice([None, None, b"", b"x" * 100, BODY]) if name == FILED and path != "/large" else None
                began = time.monotonic()
                try:
                    if writer is None:
                        reader, writer = await asyncio.wait_for(connect(is_tls, name), PATIENCE)
                    answer = await asyncio.wait_for(ask(reader, writer, name, path, body), PATIENCE)
                except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                    # A faulty upstream may cut an answer in the middle, and a cancellation one that is under way.
                    if name != FAULTS and filings.expected(name, began):
                        seen.note("lost", f"{name} {path} (TLS: {is_tls}): {error!r}")
                    break
                judge(seen, filings, name, path, body, began, answer)
                if "connection: close" in answer[1] or seen.stopped:
                    break
                await asyncio.sleep(random.expovariate(1 / pause))
        finally:
            if writer:
                writer.transport.abort()


async def http2(seen, filings, pause):
    """Streams one after another; what is told from a head is whether it is `:status 200`."""
    while not seen.stopped:
        reader, writer = await asyncio.open_connection("127.0.0.1", HTTP)
        try:
            writer.write(PREFACE + frame(floods.SETTINGS, 0, 0))
            for number in range(200):
                name, stream = random.choice([FILED, CANCELLED, UNFILED, *CHURN]), 2 * number + 1
                text = lambda value: bytes([len(value)]) + value.encode()
                began = time.monotonic()
                block = b"\x82\x86\x04" + text("/h2") + b"\x01" + text(name)
                writer.write(frame(floods.HEADERS, 5, stream, block))
                is_good = await asyncio.wait_for(h2_answer(reader, writer, stream), PATIENCE)
                expected = filings.expected(name, began)
                seen.requests["h2 200" if is_good else "h2 other"] += 1
                if expected and is_good != (expected == 200):
                    seen.note("wrong", f"HTTP/2 {name}: 200 is {is_good} where {expected} is due")
                await asyncio.sleep(random.expovariate(1 / pause))
                if seen.stopped:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            if filings.expected(name, began):
                seen.note("lost", f"HTTP/2 {name}: {error!r}")
        finally:
            writer.transport.abort()


async def h2_answer(reader, writer, stream):
    is_good = None
    while True:
        head = await reader.readexactly(9)
        size, kind, flags, number = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
        payload = await reader.readexactly(size)
        if kind == floods.SETTINGS and not flags & 1:
            writer.write(frame(floods.SETTINGS, 1, 0))
        if kind == floods.DATA and size:
            writer.write(frame(floods.WINDOW, 0, 0, struct.pack(">I", size)))
        if kind == 7:
            raise ConnectionResetError(f"GOAWAY {payload[4:8].hex()}")
        if number == stream and kind == floods.RST:
            raise ConnectionResetError(f"RST_STREAM {payload.hex()}")
        if number == stream and kind == floods.HEADERS:
            # A change of the dynamic table's size may come first.
            is_good = payload.lstrip(bytes(range(0x20, 0x40)))[:1] == b"\x88"
        if number == stream and flags & 1 and kind in (floods.DATA, floods.HEADERS):
            return is_good


async def tunnel(seen, filings, name):
    """A WebSocket that is spoken over until it ends; one of a name that stays filed must not end."""
    while not seen.stopped:
        while not seen.stopped and filings.expected(name, time.monotonic()) != 200:
            await asyncio.sleep(0.2)
        began = time.monotonic()
        try:
            reader, writer = await connect(False, name)
            writer.write(
                f"GET /ws HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            if not head.startswith(b"HTTP/1.1 101"):
                if filings.expected(name, began) == 200:
                    seen.note("wrong", f"tunnel to {name}: {head[:40]}")
                continue
            while not seen.stopped:
                note = os.urandom(16)
                writer.write(note)
                back = await asyncio.wait_for(reader.readexactly(16), PATIENCE)
                seen.requests["tunnel"] += 1
                if back != note:
                    seen.note("wrong", f"tunnel to {name}: another echo")
                if filings.expected(name, time.monotonic()) == 451:
                    # It was asked after the cancellation was in force.
                    seen.note("tunnels_stayed", name)
                    break
                await asyncio.sleep(0.5)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            if filings.is_active[name] and filings.expected(name, time.monotonic()) and filings.changed[name] < began:
                seen.note("tunnels_cut", name)
            else:
                seen.tunnels_ended += 1
        finally:
            writer.transport.abort()


async def churn(seen, filings):
    """One of the names is cancelled or given back, every second or so."""
    while not seen.stopped:
        name = random.choice(CHURN)
        if filings.expected(name, time.monotonic()):
            await asyncio.to_thread(filings.put, name, not filings.is_active[name])
            seen.flips += 1
        await asyncio.sleep(1)


async def reloads(seen, gate, work):
    headers = 100
    while not seen.stopped:
        await asyncio.sleep(20)
        headers = 200 - headers + 50
        path = pathlib.Path(work, "gate.toml")
        path.with_suffix(".new").write_text(config(headers), encoding="utf-8")
        path.with_suffix(".new").rename(path)
        gate.send_signal(signal.SIGHUP)
        seen.reloads += 1


async def attackers(seen):
    names = [name for name in floods.FLOODS if name not in NO_FLOODS]
    first = random.sample(names, len(names))
    while not seen.stopped:
        await asyncio.sleep(1 if first else random.uniform(20, 40))
        name = first.pop() if first else random.choice(names)
        command = [sys.executable, floods.__file__, "--attack", name, "--seconds", "8", "--rate", "5000"]
        attacker = await asyncio.create_subprocess_exec("nice", "-n", "10", *command, stdout=subprocess.DEVNULL)
        await attacker.wait()
        seen.floods[name] += 1


# --- samples and what they say --------------------------------------------------------------------------------------

async def sample(seen, gate, samples, began):
    while not seen.stopped:
        with open(f"/proc/{gate.pid}/smaps_rollup", encoding="ascii") as file:
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file if line.endswith("kB\n")}
        samples.append({
            "seconds": time.monotonic() - began, "descriptors": len(os.listdir(f"/proc/{gate.pid}/fd")),
            "memory": sizes["Anonymous"], "huge_pages": sizes["AnonHugePages"],
            "requests": sum(seen.requests.values()), "wrong": seen.wrong, "lost": seen.lost,
        })
        await asyncio.sleep(5)


def growth(samples, key):
    """From the second tenth to the last: medians, for floods come and go."""
    tenth = max(1, len(samples) // 10)
    early, late = samples[tenth:2 * tenth] or samples, samples[-tenth:]
    return [statistics.median(it[key] for it in part) for part in (early, late)]


def plot(samples, path):
    width, height, left = 800, 240, 70
    last = samples[-1]["seconds"] or 1
    rows = []
    for at, (key, unit, scale) in enumerate((("memory", "MiB", 1 << 20), ("descriptors", "descriptors", 1))):
        top, most = 20 + at * (height + 40), max(it[key] for it in samples) / scale or 1
        points = " ".join(
            f"{left + it['seconds'] / last * (width - left - 10):.1f},{top + height - it[key] / scale / most * height:.1f}"
            for it in samples
        )
        rows.append(
            f'<text x="4" y="{top + 12}">{most:.0f}</text><text x="4" y="{top + height}">0</text>'
            f'<text x="4" y="{top + height / 2}">{unit}</text>'
            f'<path d="M{left},{top}V{top + height}H{width - 10}" fill="none" stroke="#888"/>'
            f'<polyline points="{points}" fill="none" stroke="#06c"/>'
        )
    foot = 2 * (height + 40) + 10
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {foot + 20}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(rows)}'
        f'<text x="{left}" y="{foot}">0</text><text x="{width - 90}" y="{foot}">{last / 60:.0f} minutes</text></svg>\n',
        encoding="utf-8",
    )


def report(seen, samples, is_same):
    (memory, memory_late), (files, files_late) = growth(samples, "memory"), growth(samples, "descriptors")
    checks = {
        "the same process": is_same,
        "no request lost": seen.lost == 0,
        "none misjudged": seen.wrong == 0,
        "no tunnel of a filed name ended": seen.tunnels_cut == 0,
        "each tunnel of a cancelled name did": seen.tunnels_stayed == 0 and seen.tunnels_ended > 0,
        "memory does not grow": memory_late <= memory * (1 + GROWTH_SHARE) + GROWTH_BYTES,
        "descriptors do not grow": files_late <= files * (1 + GROWTH_SHARE) + GROWTH_DESCRIPTORS,
    }
    print(f"\n{sum(seen.requests.values()):,} answers: {dict(seen.requests)}")
    print(f"{seen.flips:,} cancellations and returns, {seen.tunnels_ended} tunnels ended by them, {seen.reloads} reloads")
    print(f"{sum(seen.floods.values())} floods: {dict(seen.floods)}")
    huge, huge_late = growth(samples, "huge_pages")
    print(f"of the memory in huge pages {huge / (1 << 20):.1f} to {huge_late / (1 << 20):.1f} MiB")
    tenth = max(1, len(samples) // 10)
    tenths = [statistics.median(it["memory"] for it in samples[at:at + tenth]) for at in range(0, len(samples), tenth)]
    print("memory by tenths, MiB:", *(f"{it / (1 << 20):.1f}" for it in tenths))
    print(f"memory {memory / (1 << 20):.1f} to {memory_late / (1 << 20):.1f} MiB, descriptors {files:.0f} to {files_late:.0f}")
    for check, is_good in checks.items():
        print(f"{'good' if is_good else 'BAD ':<5} {check}")
    return all(checks.values())


async def soak(gate, work, options):
    seen, filings, samples, began = Seen(), Filings(), [], time.monotonic()
    for name, is_active in filings.is_active.items():
        await asyncio.to_thread(filings.put, name, is_active)
    await asyncio.sleep(GRACE)
    clients, streams = 24, 6
    pause = (clients + streams) / options.rate
    tasks = [client(seen, filings, number % 2 == 1, pause) for number in range(clients)]
    tasks += [http2(seen, filings, pause) for _ in range(streams)]
    tasks += [tunnel(seen, filings, name) for name in (FILED, FILED, *CHURN)]
    tasks += [churn(seen, filings), reloads(seen, gate, work), sample(seen, gate, samples, began)]
    tasks += [] if options.no_floods else [attackers(seen)]
    running = [asyncio.create_task(task) for task in tasks]
    until = began + options.minutes * 60
    is_same = True
    while time.monotonic() < until and is_same:
        done, _ = await asyncio.wait(running, timeout=5, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        is_same = gate.poll() is None
    seen.stopped = True
    await asyncio.wait(running, timeout=PATIENCE)
    out = pathlib.Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    (out / "soak.json").write_text(json.dumps({"samples": samples, "notes": list(seen.notes)}), encoding="utf-8")
    plot(samples, out / "soak.svg")
    return report(seen, samples, is_same)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", help="path of a beian-gate binary")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=200, help="requests a second, about")
    parser.add_argument("--no-floods", action="store_true")
    parser.add_argument("--serve", choices=["origin", "faulty", "floods"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.serve:
        handler, port = {"origin": (origin, ORIGIN), "faulty": (faulty, FAULTY), "floods": (floods.upstream, UPSTREAM)}[options.serve]
        return asyncio.run(serve(handler, port))
    binary = options.gate
    if not binary:
        subprocess.run(["cargo", "build", "--release", "--locked"], check=True)
        target = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps"]))["target_directory"]
        binary = f"{target}/release/beian-gate"
    with tempfile.TemporaryDirectory() as work:
        children = [subprocess.Popen([sys.executable, __file__, "--serve", which]) for which in ("origin", "faulty")]
        pathlib.Path(work, "gate.toml").write_text(config(100), encoding="utf-8")
        log = open(f"{work}/gate.err", "wb")
        gate = subprocess.Popen([os.path.abspath(binary), "run", "-c", "gate.toml"], cwd=work, stdout=log, stderr=log)
        children.append(gate)
        good = False
        try:
            floods.Gate.until(lambda: floods.Gate.ask(ADMIN, "/healthz"))
            good = asyncio.run(soak(gate, work, options))
        finally:
            for child in children:
                child.terminate()
                try:
                    child.wait(40)
                except subprocess.TimeoutExpired:
                    child.kill()
            text = pathlib.Path(work, "gate.err").read_text(encoding="utf-8", errors="replace")
            if "panicked" in text or not good:
                print(text[-20_000:])
                good = good and "panicked" not in text
    print("\nall good" if good else "\nnot all good")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
