#!/usr/bin/env python3
"""Floods against the gate, one after another, with a probe client beside each: a table of what must hold.

    python3 benches/floods.py [--gate PATH] [--seconds 10] [--rate 50000] [--only NAME,…] [--first]

Wants Linux, two cores and Python's standard library. Builds the release binary unless --gate names one. The gate has
CPU 0; attackers (niced) and probe have CPU 1, each with an upstream of its own. The attacker calls from 127.0.0.2 and on, the probe from 127.0.0.1.
All traffic stays on loopback; only what this script started is ended. Where the machine has other work to do, its times
are no measure: with --first (as root) gate, probe and the probe's upstream are scheduled before all else (SCHED_FIFO),
and the attackers' upstream before the rest.

The gate runs without huge pages here (MIMALLOC_ALLOW_THP=0, unless the environment says otherwise): where they are
allowed the kernel fills the gaps of the heap's areas up by itself, every ten seconds and by several MiB at once
(khugepaged), which belongs to no connection.

A row is good if the gate is still the same process, the probe succeeded 99.9 % of the time with a p99 of at most five
times its baseline, a connection held at most 1 MiB, nine in ten of those were ended that ought to be (asked from eight
seconds on), and memory and descriptors were back within 10 % (and 8 MiB, 16 descriptors, which an allocator and a pool
may keep) after 60 seconds. Every tenth request of the probe's, and of those that meet a faulty upstream, is for a name
without a filing: it must be answered by the gate, and no upstream may have seen it. What a faulty upstream becomes must
be the status that it stands for, in time; a POST must not come to an upstream twice.
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

HTTP, HTTPS, UPSTREAM, REGISTRY, ADMIN, CALM_UPSTREAM, CLOSED = 21100, 21101, 21102, 21103, 21104, 21105, 21109
HOST = "filed.cn"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, WINDOW, CONT = 0, 1, 2, 3, 4, 6, 8, 9
CALM = 11


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(path="/ok", method=0x82, more=b"", host=HOST):
    text = lambda value: bytes([len(value)]) + value.encode()
    return bytes([method, 0x86, 0x04]) + text(path) + b"\x01" + text(host) + more


# --- the upstream -------------------------------------------------------------------------------------------------

# What upstreams have seen that they must not see: requests for names without a filing, and POSTs that came again.
SEEN = {"unfiled": 0, "again": 0}
POSTS = set()


def look_at(head):
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line)
    SEEN["unfiled"] += not fields.get(b"host", b"").endswith(HOST.encode())
    if number := fields.get(b"x-once"):
        SEEN["again"] += number in POSTS
        POSTS.add(number)


async def upstream(reader, writer):
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ", 2)[1]
            if path == b"/seen":
                told = json.dumps(SEEN).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)
                continue
            look_at(head)
            if path.startswith(b"/hang"):
                await reader.read()
                return
            if path.startswith(b"/drip"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not writer.is_closing():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(1)
            if path.startswith(b"/cut"):
                writer.write(page[:-500])
                await writer.drain()
                writer.transport.abort()
                return
            if path.startswith(b"/headers"):
                writer.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    writer.write(b"x: y\r\n" * 1000)
                    await writer.drain()
            if path.startswith(b"/big"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()
            if b"content-length" not in head.lower() and b"chunked" not in head.lower():
                writer.write(page)
                await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.transport.abort()


async def serve_upstream(port):
    server = await asyncio.start_server(upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


# --- attackers: each a coroutine that goes on until its time is over ------------------------------------------------

class Attack:
    """What an attacker is given, and what it found."""

    def __init__(self, seconds, rate):
        self.until = time.monotonic() + seconds
        self.rate, self.sent, self.opened, self.ended, self.calmed = rate, 0, 0, 0, 0
        self.statuses, self.slowest, self.began, self.passed, self.there = {}, 0.0, time.monotonic(), 0, 0

    def goes_on(self):
        return time.monotonic() < self.until

    async def connect(self, port=HTTP, source=None, tls=None):
        self.opened += 1
        source = source or f"127.0.{self.opened // 500 % 200}.{2 + self.opened % 250}"
        options = {"ssl": tls, "server_hostname": HOST} if tls else {}
        connection = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), **options)
        self.there += self.goes_on()
        return connection

    async def pace(self, count):
        self.sent += count
        ahead = self.sent / self.rate - (time.monotonic() - self.began)
        await asyncio.sleep(max(ahead, 0))


async def watch_end(attack, reader):
    """Reads until the other side ends; whether with ENHANCE_YOUR_CALM."""
    last = b""
    try:
        while octets := await reader.read(65536):
            last = (last + octets)[-65536:]
    except ConnectionError:
        pass
    at = last.rfind(bytes([7, 0, 0, 0, 0, 0]))
    attack.calmed += at >= 0 and last[at + 10:at + 14] == struct.pack(">I", CALM)
    attack.ended += attack.goes_on()


async def flood(attack, first, batch, count):
    """One connection after another: `first`, then batches (by number) until it ends."""
    while attack.goes_on():
        try:
            reader, writer = await attack.connect()
            reading = asyncio.create_task(watch_end(attack, reader))
            writer.write(PREFACE + frame(SETTINGS, 0, 0) + first)
            number = 0
            while attack.goes_on() and not reading.done():
                writer.write(batch(number))
                number += 1
                await writer.drain()
                await attack.pace(count)
            writer.transport.abort()
            await reading
        except OSError:
            await asyncio.sleep(0.01)


def repeated(kind, flags, stream, payload, first=b""):
    octets = frame(kind, flags, stream, payload) * 200
    return lambda attack: flood(attack, first, lambda _: octets, 200)


def per_stream(make):
    def batch(number):
        return b"".join(make(2 * (number * 50 + at) + 1) for at in range(50))
    return lambda attack: flood(attack, b"", batch, 50)


async def held(attack, count, begin, drip=None, port=HTTP, reads=True, source=None, tls=None):
    """Many connections at once that each sends `begin` and then drips; those that end are counted."""
    async def one(number):
        await asyncio.sleep(number / count * min(3, (attack.until - attack.began) / 3))
        try:
            reader, writer = await attack.connect(port, source, tls)
            if reads:
                reading = asyncio.create_task(watch_end(attack, reader))
            else:
                writer.transport.pause_reading()
                reading = asyncio.create_task(asyncio.Event().wait())
            writer.write(begin)
            at = 0
            while attack.goes_on() and not reading.done():
                if drip:
                    writer.write(drip[at % len(drip):at % len(drip) + 1] if isinstance(drip, bytes) else drip[0])
                    at += 1
                await asyncio.sleep(1)
            writer.transport.abort()
            reading.cancel()
        except OSError:
            attack.ended += 1
    await asyncio.gather(*(one(number) for number in range(count)))


async def slow_reads(attack):
    async def one():
        reader, writer = await attack.connect()
        writer.write(f"GET /big HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        writer.transport.pause_reading()
        while attack.goes_on():
            await asyncio.sleep(0.5)
        writer.transport.abort()
    await asyncio.gather(*(one() for _ in range(200)))


async def connections(attack):
    while attack.goes_on():
        try:
            _, writer = await attack.connect()
            await attack.pace(25)
            writer.transport.abort()
        except OSError:
            pass


async def requests(attack, path, host=HOST):
    """GETs, POSTs that must not be sent twice, and every tenth for a name without a filing."""
    async def one():
        while attack.goes_on():
            number = attack.opened
            name = "unfiled.cn" if number % 10 == 9 else host
            once = f"X-Once: {os.getpid()}-{number}\r\nContent-Length: 0\r\n"
            method, more = ("POST", once) if number % 2 else ("GET", "")
            try:
                began = time.monotonic()
                reader, writer = await attack.connect()
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: {name}\r\n{more}Connection: close\r\n\r\n".encode())
                head = (await asyncio.wait_for(reader.readline(), 30)).split(b" ")
                status = head[1].decode() if len(head) > 1 else "cut"
                if name == "unfiled.cn":
                    attack.passed += status != "451"
                    status = "unfiled"
                if status == "200":
                    await asyncio.wait_for(reader.read(), max(1, attack.until - time.monotonic()))
                attack.slowest = max(attack.slowest, time.monotonic() - began)
                attack.statuses[status] = attack.statuses.get(status, 0) + 1
                writer.transport.abort()
            except asyncio.TimeoutError:
                # One that drips goes on for longer than the flood.
                attack.statuses["goes on"] = attack.statuses.get("goes on", 0) + 1
            except OSError:
                attack.statuses["error"] = attack.statuses.get("error", 0) + 1
            await attack.pace(500)
    await asyncio.gather(*(one() for _ in range(20)))


TLS = ssl.create_default_context()
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
CLIENT_HELLO_64K = b"".join(b"\x16\x03\x01\x40\x00" + (b"\x01\x00\xff\xf0\x03\x03" if not at else b"\0" * 6) + b"\0" * (16384 - 6) for at in range(4))
GET = f"GET /ok HTTP/1.1\r\nHost: {HOST}\r\n".encode()
POST = f"POST /post HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000\r\n\r\n".encode()
STREAMS = b"".join(frame(HEADERS, 5, 2 * at + 1, block("/big")) for at in range(100))
NO_WINDOW = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + STREAMS
PAGES = b"".join(frame(HEADERS, 5, 2 * at + 1, block(host="unfiled.cn")) for at in range(100))
NO_WINDOW_PAGES = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + PAGES
WIDE = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1)) + frame(WINDOW, 0, 0, struct.pack(">I", 2**30)) + STREAMS
OPEN_POST = frame(HEADERS, 4, 1, block("/post", 0x83))
IDLE = min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200)
# In front of the commands that --first is for.
FIRST = []
SLOW_BLOCK = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 1, 1, block())
# What clients must be told where an upstream fails, and how soon: the site's time and what a busy machine adds.
FAULTS = {"refuses": {"502"}, "hangs": {"504"}, "drips": {"goes on", "200"}, "cuts": {"200"}, "headers": {"502"}}
IN_TIME_SECONDS = 5
# From how many seconds on a flood has time to see its connections ended.
LONG_SECONDS = 8
BIG_BLOCK = frame(HEADERS, 1, 1, block()) + frame(CONT, 0, 1, b"\x90" * 16000) + frame(CONT, 4, 1, b"\x90" * 16000)


def header_count(number):
    stream = 2 * number + 1
    return frame(HEADERS, 1, stream, block()) + frame(CONT, 0, stream, b"\x90" * 16000) + frame(CONT, 4, stream, b"\x90" * 16000)


# name: (what it is, coroutine, must connections be ended early, connections held at once for the 1 MiB rule or 0)
FLOODS = {
    "rapid-reset": ("HEADERS and RST_STREAM", per_stream(lambda s: frame(HEADERS, 5, s, block("/hang")) + frame(RST, 0, s, b"\0\0\0\x08")), True, 1),
    "made-you-reset": ("HEADERS and what makes the gate reset", per_stream(lambda s: frame(HEADERS, 5, s, block("/hang")) + frame(WINDOW, 0, s, b"\0\0\0\0")), True, 1),
    "continuation": ("CONTINUATION without end", repeated(CONT, 0, 1, b"\x90", frame(HEADERS, 1, 1, block())), True, 1),
    "header-count": ("one indexed field 32,000 times", lambda a: flood(a, b"", header_count, 500), True, 1),
    "settings": ("SETTINGS", repeated(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)), True, 1),
    "ping": ("PING", repeated(PING, 0, 0, b"\0" * 8), True, 1),
    "empty-data": ("empty DATA", repeated(DATA, 0, 1, b"", OPEN_POST), True, 1),
    "priority": ("PRIORITY", repeated(PRIORITY, 0, 3, b"\0\0\0\0\x09"), True, 1),
    "window-update": ("WINDOW_UPDATE", repeated(WINDOW, 0, 0, b"\0\0\0\x01"), True, 1),
    "zero-window": ("20 connections of 100 streams, no window", lambda a: held(a, 20, NO_WINDOW, reads=False), False, 20),
    "drip-window": ("the same, an octet of window a second", lambda a: held(a, 20, NO_WINDOW, [b"".join(frame(WINDOW, 0, 2 * at + 1, b"\0\0\0\x01") for at in range(100))]), False, 20),
    "pages": ("20 connections of 100 streams for an unfiled name, no window", lambda a: held(a, 20, NO_WINDOW_PAGES, reads=False), False, 20),
    "unread": ("20 connections of 100 streams, window but unread", lambda a: held(a, 20, WIDE, reads=False), False, 20),
    "slow-headers": ("500 heads, an octet a second", lambda a: held(a, 500, GET, b"x: y\r\n"), True, 500),
    "slow-bodies": ("500 bodies, an octet a second", lambda a: held(a, 500, POST, b"x"), True, 500),
    "slow-headers-h2": ("100 HTTP/2 field blocks, an octet a second", lambda a: held(a, 100, SLOW_BLOCK, [frame(CONT, 0, 1, b"\x90")]), True, 100),
    "slow-bodies-h2": ("100 HTTP/2 bodies, an octet a second", lambda a: held(a, 100, PREFACE + frame(SETTINGS, 0, 0) + OPEN_POST, [frame(DATA, 0, 1, b"x")]), False, 100),
    "slow-headers-tls": ("100 heads over TLS, an octet a second", lambda a: held(a, 100, GET, b"x: y\r\n", port=HTTPS, tls=TLS), True, 100),
    "slow-reads": ("200 answers without end, unread", slow_reads, False, 200),
    "idle-handshakes": ("500 connections that never shake hands", lambda a: held(a, 500, b"", port=HTTPS), True, 500),
    "drip-handshakes": ("500 handshakes, an octet a second", lambda a: held(a, 500, b"\x16\x03\x01\x02\x00", b"\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, port=HTTPS), True, 500),
    "huge-hello": ("500 ClientHellos of 64 KiB", lambda a: held(a, 500, CLIENT_HELLO_64K, port=HTTPS), True, 500),
    "idle": ("idle connections, 20,000 or as many as descriptors allow", lambda a: held(a, IDLE, b""), False, IDLE),
    "connections": ("connections that come and go", connections, False, 0),
    "client-limit": ("2,024 heads from one address, of which 1,000 are too many", lambda a: held(a, 2024, GET, b"x: y\r\n", source="127.0.0.77"), True, 1024),
    "descriptors": ("more connections than descriptors", lambda a: held(a, 400, GET, b"x: y\r\n"), True, 0),
    "refuses": ("an upstream that refuses", lambda a: requests(a, "/ok", "refuses.filed.cn"), False, 0),
    "hangs": ("an upstream that hangs", lambda a: requests(a, "/hang", "hangs.filed.cn"), False, 0),
    "drips": ("an upstream that drips", lambda a: requests(a, "/drip"), False, 0),
    "cuts": ("an upstream that resets in the middle", lambda a: requests(a, "/cut"), False, 0),
    "headers": ("an upstream with endless headers", lambda a: requests(a, "/headers"), False, 0),
}


def attack_main(name, seconds, rate):
    attack = Attack(seconds, rate)

    async def run():
        try:
            await asyncio.wait_for(FLOODS[name][1](attack), seconds + 5)
        except asyncio.TimeoutError:
            pass
    asyncio.run(run())
    report = {key: getattr(attack, key) for key in ("sent", "opened", "ended", "calmed", "statuses", "slowest", "passed", "there")}
    print(json.dumps(report))


# --- the gate, and what is asked of it ------------------------------------------------------------------------------

CONFIG = f"""
provider = "example-cloud"
workers = 1
[[listener]]
address = "127.0.0.1:{HTTP}"
protocol = "http"
[[listener]]
address = "127.0.0.1:{HTTPS}"
protocol = "https"
[tls]
directory = "certs"
[development]
certificates = ["{HOST}"]
[[site]]
hosts = ["{HOST}"]
upstreams = ["http://127.0.0.1:{UPSTREAM}"]
[[site]]
hosts = ["hangs.{HOST}"]
upstreams = ["http://127.0.0.1:{UPSTREAM}"]
[site.timeouts]
response = "2s"
[[site]]
hosts = ["refuses.{HOST}"]
upstreams = ["http://127.0.0.1:{CLOSED}"]
[[site]]
hosts = ["probe.{HOST}"]
upstreams = ["http://127.0.0.1:{CALM_UPSTREAM}"]
[registry.embedded]
address = "127.0.0.1:{REGISTRY}"
database = "sqlite:registry.db"
[cache]
directory = "state"
[limits]
header_timeout = "3s"
body_timeout = "3s"
[log]
access = "access.log"
[admin]
address = "127.0.0.1:{ADMIN}"
"""


class Gate:
    def __init__(self, binary, work):
        with open(f"{work}/gate.toml", "w", encoding="utf-8") as file:
            file.write(CONFIG)
        self.err = open(f"{work}/gate.err", "wb")
        self.process = subprocess.Popen(
            [*FIRST, "taskset", "-c", "0", binary, "run", "-c", "gate.toml"], cwd=work, stdout=self.err, stderr=self.err,
            env={"MIMALLOC_ALLOW_THP": "0", **os.environ},
        )
        document = json.dumps({"number": "京ICP备20000001号-1", "access": {"example-cloud": "active"}})
        self.until(lambda: self.ask(ADMIN, "/healthz"))
        self.ask(REGISTRY, f"/v1/filings/{HOST}", "PUT", document.encode())
        self.until(lambda: b'"allow"' in self.ask(ADMIN, f"/v1/verdict?host={HOST}"))

    @staticmethod
    def ask(port, path, method="GET", body=None):
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers, method=method)
        return urllib.request.urlopen(request, timeout=5).read()

    @staticmethod
    def until(ready):
        for _ in range(600):
            try:
                if ready():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        sys.exit("the gate did not get ready")

    def memory(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def limit(self, number):
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (number or hard, hard))


async def probe(seconds):
    """A request on a fresh connection every 20 ms; gives their times, and how many failed."""
    times, failed, until = [], 0, time.monotonic() + seconds

    async def one():
        is_filed = len(times) % 10 != 9
        host, expected = (f"probe.{HOST}", b"HTTP/1.1 200") if is_filed else ("unfiled.cn", b"HTTP/1.1 451")
        reader, writer = await asyncio.open_connection("127.0.0.1", HTTP)
        writer.write(f"GET /ok HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readline()
        await reader.read()
        writer.transport.abort()
        return head.startswith(expected)

    while time.monotonic() < until:
        began = time.monotonic()
        try:
            failed += not await asyncio.wait_for(one(), 5)
        except (OSError, asyncio.TimeoutError):
            failed += 1
        times.append(time.monotonic() - began)
        await asyncio.sleep(max(0, 0.02 - times[-1]))
    return times, failed


def p99(times):
    return statistics.quantiles(times, n=100)[98] if len(times) > 1 else max(times)


async def settle(gate, memory, descriptors, seconds=60):
    """Waits for memory and descriptors to come back; gives what they came to. A client goes on asking meanwhile: an
    allocator gives back what is free as its threads use it, and those of a gate that nobody asks don't."""
    until = time.monotonic() + seconds
    while True:
        await probe(0.25)
        now = gate.memory(), gate.descriptors()
        if (now[0] <= memory * 1.1 + (8 << 20) and now[1] <= descriptors * 1.1 + 16) or time.monotonic() > until:
            return now


async def peak(gate, during):
    most = 0
    while not during.done():
        most = max(most, gate.memory())
        await asyncio.sleep(0.1)
    return most


def attacker_of(name, seconds, rate):
    options = ["--attack", name, "--seconds", str(seconds), "--rate", str(rate)]
    # Where the probe is before all else, the attacker is to come before the machine's other work at least.
    niced = [] if FIRST else ["nice", "-n", "10"]
    return [*niced, "taskset", "-c", "1", sys.executable, __file__, *options]


def ended_at_least(name, found, seconds):
    if seconds < LONG_SECONDS:
        return 1
    # Of those within the limit each has its time like anybody's; of those without a descriptor most never came in.
    return {"client-limit": 1000, "descriptors": 1}.get(name, 0.9 * found.get("opened", 0))


async def row(gate, name, options, baseline):
    what, _, must_end, connections_held = FLOODS[name]
    memory, descriptors = gate.memory(), gate.descriptors()
    if name == "descriptors":
        gate.limit(descriptors + 100)
    command = attacker_of(name, options.seconds, options.rate)
    attacker = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    probing = asyncio.create_task(probe(options.seconds))
    most = await peak(gate, probing)
    times, failed = await probing
    found = json.loads((await attacker.communicate())[0] or b"{}")
    if name == "descriptors":
        gate.limit(0)
    after = await settle(gate, memory, descriptors)
    seen = [json.loads(gate.ask(port, "/seen")) for port in (UPSTREAM, CALM_UPSTREAM)]
    statuses = set(found.get("statuses", {})) - {"unfiled"}
    success = 100 * (1 - failed / len(times))
    held_each = max(0, most - memory) / connections_held if connections_held else 0
    checks = {
        "alive": gate.process.poll() is None,
        "attacked": found.get("there", 0) >= 0.9 * connections_held,
        # While the gate has no descriptor left it can't serve: what counts there is that it does again.
        "probe": success >= 99.9 or name == "descriptors",
        "p99": p99(times) <= 5 * baseline or name == "descriptors",
        "held": held_each <= 1 << 20,
        "back": after[0] <= memory * 1.1 + (8 << 20) and after[1] <= descriptors * 1.1 + 16,
        "ended": not must_end or found.get("ended", 0) >= ended_at_least(name, found, options.seconds),
        "no way past": found.get("passed", 0) == 0 and all(it["unfiled"] == 0 for it in seen),
        "sent once": all(it["again"] == 0 for it in seen),
        "statuses": name not in FAULTS or (bool(statuses) and statuses <= FAULTS[name]),
        "in time": name not in FAULTS or name == "drips" or found.get("slowest", 0) <= IN_TIME_SECONDS,
    }
    if name == "descriptors":
        again, lost = await probe(1)
        checks["again"] = lost == 0 and len(again) > 0
    bad = [check for check, good in checks.items() if not good]
    print(
        f"{name:<16} {success:>7.2f} % {p99(times) * 1000:>8.2f} {held_each / 1024:>9.0f} {found.get('ended', 0):>7}"
        f" {found.get('calmed', 0):>7} {(after[0] - memory) / (1 << 20):>+8.1f} {after[1] - descriptors:>+5}"
        f"  {'good' if not bad else 'BAD: ' + ' '.join(bad)}  ({what}; {found.get('sent', 0):,} sent"
        + (f", {found['statuses']}, slowest {found['slowest']:.1f} s" if found.get("statuses") else "") + ")",
        flush=True,
    )
    return not bad


async def measure(gate, options):
    # What a worker keeps from its first busy moment on belongs to no flood.
    warming = await asyncio.create_subprocess_exec(*attacker_of("unread", 2, options.rate), stdout=subprocess.DEVNULL)
    await warming.wait()
    await probe(1)
    times, failed = await probe(max(3, options.seconds))
    baseline = p99(times)
    print(f"baseline: {len(times)} probes, {failed} failed, p50 {statistics.median(times) * 1000:.2f} ms, p99 {baseline * 1000:.2f} ms\n")
    print(f"{'flood':<16} {'probe':>9} {'p99 ms':>8} {'KiB held':>9} {'ended':>7} {'calmed':>7} {'MiB':>8} {'fds':>5}")
    names = options.only.split(",") if options.only else list(FLOODS)
    return all([await row(gate, name, options, baseline) for name in names])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", help="path of a beian-gate binary")
    parser.add_argument("--seconds", type=int, default=10, help="of each flood")
    parser.add_argument("--rate", type=int, default=50_000, help="frames a second of a flood of frames")
    parser.add_argument("--first", action="store_true", help="gate and probe before all else on the machine")
    parser.add_argument("--only", help="floods, by name, with commas: " + ", ".join(FLOODS))
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.attack:
        return attack_main(options.attack, options.seconds, options.rate)
    if options.upstream:
        return asyncio.run(serve_upstream(options.upstream))
    binary = options.gate
    if not binary:
        subprocess.run(["cargo", "build", "--release", "--locked"], check=True)
        target = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps"]))["target_directory"]
        binary = f"{target}/release/beian-gate"
    os.sched_setaffinity(0, {1})
    if options.first:
        FIRST.extend(["chrt", "-f", "1"])
        # Whom this process starts has no share in it.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    with tempfile.TemporaryDirectory() as work:
        script = [sys.executable, __file__, "--upstream"]
        calm = subprocess.Popen([*FIRST, *script, str(CALM_UPSTREAM)])
        # Where it were starved, pages about it would be what a connection holds.
        ahead = ["sh", "-c", 'echo -20 >/proc/self/autogroup; exec "$@"', "origin"]
        behind = ahead if options.first else ["nice", "-n", "10"]
        origin = subprocess.Popen([*behind, *script, str(UPSTREAM)], start_new_session=options.first)
        gate = None
        try:
            gate = Gate(os.path.abspath(binary), work)
            good = asyncio.run(measure(gate, options))
        finally:
            for child in (gate.process if gate else None, calm, origin):
                if child:
                    child.terminate()
                    try:
                        child.wait(40)
                    except subprocess.TimeoutExpired:
                        child.kill()
            if gate:
                with open(f"{work}/gate.err", encoding="utf-8", errors="replace") as file:
                    text = file.read()
                if "panicked" in text:
                    print(text)
                    good = False
    print("\nall good" if good else "\nnot all good")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
