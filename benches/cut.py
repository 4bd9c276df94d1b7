#!/usr/bin/env python3
"""How soon everything of a cancelled name ends, among many that go on; and what unrelated changes cost meanwhile.

Starts the gate (one worker) and a registry as processes of their own, an upstream that answers and never ends, and
opens WebSocket tunnels and HTTP/2 downloads through the gate, --of-the-name of them of one name. Then streams in changes of
other names, and cancels that name at the registry. Python's standard library does; builds nothing but the gate
(`cargo build --release`, unless --gate names a binary).

    python3 benches/cut.py [--tunnels 2000] [--streams 15000] [--of-the-name 1000] [--changes 10000] [--rounds 3]

Descriptors bound it: a tunnel takes the gate two, a stream one; the most that the limit here allows are opened. Times are from the
registry's answer to when this client, one thread, has seen each end; so they hold its own queue as well. CPU is the gate's, from
/proc, less that of the same time without changes. All traffic stays on loopback; only what this script started is ended.
"""

import argparse
import http.client
import json
import os
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

GATE, ADMIN, REGISTRY, UPSTREAM = 21110, 21111, 21112, 21113
STREAMS_EACH = 100
OTHER_NAMES = 1000
MOST_UNDER_WAY = 300
CHANGES_EACH, CHANGES_PER_SECOND = 20, 1000
DEADLINE = 120
TICKS = os.sysconf("SC_CLK_TCK")
NUMBER = "京ICP备10000000号-1"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunnels", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=15_000)
    parser.add_argument("--of-the-name", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gate", help="path of a beian-gate binary")
    return parser.parse_args()


def upstream():
    """Answers every request and never ends it; in a process of its own, for its descriptors."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", UPSTREAM))
    listener.listen(4096)
    poll, open_ones = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                accepted, _ = listener.accept()
                open_ones[accepted.fileno()] = accepted
                poll.register(accepted, select.EPOLLIN)
                continue
            try:
                octets = open_ones[number].recv(65536)
                if octets:
                    open_ones[number].sendall(UPGRADE if b"websocket" in octets else ENDLESS)
                    continue
            except OSError:
                pass
            poll.unregister(number)
            open_ones.pop(number).close()


def until(what, ready):
    since = time.monotonic()
    while not ready():
        if time.monotonic() - since > DEADLINE:
            sys.exit(f"waited {DEADLINE} s for {what}")
        time.sleep(0.01)


def ask(port, method, path, body=None, kind="application/json"):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.request(method, path, body, {"content-type": kind})
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""


def file(names, state="active"):
    lines = [json.dumps({"domain": name, "number": NUMBER.replace("10000000", str(10_000_000 + n)), "access": {"bench": state}})
             for n, name in names]
    status, body = ask(REGISTRY, "POST", "/v1/filings:batch", ("\n".join(lines) + "\n").encode(), "application/x-ndjson")
    if status not in (200, 201, 207):
        sys.exit(f"the registry answered {status}: {body[:500]}")


def start(gate, work):
    with open(f"{work}/registry.toml", "w", encoding="utf-8") as config:
        config.write(f'provider = "bench"\n[registry.embedded]\naddress = "127.0.0.1:{REGISTRY}"\ndatabase = "sqlite:registry.db"\n')
    with open(f"{work}/gate.toml", "w", encoding="utf-8") as config:
        config.write(f'provider = "bench"\nworkers = 1\n[[listener]]\naddress = "127.0.0.1:{GATE}"\nprotocol = "http"\n'
                     f'[[site]]\nhosts = ["*.cn", "*.bench.cn"]\nupstreams = ["http://127.0.0.1:{UPSTREAM}"]\n[site.timeouts]\nidle = "1h"\nresponse = "1h"\n'
                     f'[registry]\nurl = "http://127.0.0.1:{REGISTRY}"\n[cache]\ndirectory = "state"\n[admin]\naddress = "127.0.0.1:{ADMIN}"\n'
                     '[limits]\nconnections = 100000\nconnections_per_client = 100000\n')
    quiet = {"cwd": work, "stdout": open(f"{work}/out", "ab"), "stderr": subprocess.STDOUT}
    registry = subprocess.Popen([gate, "registry", "serve", "-c", "registry.toml"], **quiet)
    until("the registry", lambda: ask(REGISTRY, "GET", "/v1/filings")[0] == 200)
    return registry, subprocess.Popen([gate, "run", "-c", "gate.toml"], **quiet)


def host(number, of_the_name):
    return "cut.cn" if number < of_the_name else f"other-{number % OTHER_NAMES}.cn"


def literal(name, value):
    return bytes([0x10, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Connection:
    """A connection of this client's, whose ends it tells."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", GATE), timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def read(self):
        try:
            octets = self.socket.recv(262144)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        return octets or None


class Tunnel(Connection):
    def __init__(self, name):
        super().__init__()
        self.name, self.live = name, 0
        self.socket.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())

    def ends(self):
        octets = self.read()
        if octets is None:
            return [self.name]
        self.live = self.live or int(octets.startswith(b"HTTP/1.1 101"))
        return []


class Streams(Connection):
    def __init__(self, names):
        super().__init__()
        self.names, self.live = {2 * at + 1: name for at, name in enumerate(names)}, 0
        out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
        for stream, name in self.names.items():
            fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", name)]
            out += frame(1, 5, stream, b"".join(literal(*field) for field in fields))
        self.socket.sendall(out)

    def ends(self):
        octets = self.read()
        if octets is None:
            return list(self.names.values())
        self.rest += octets
        ended = []
        while len(self.rest) >= 9:
            length = int.from_bytes(self.rest[:3], "big")
            if len(self.rest) < 9 + length:
                break
            kind, flags, stream = self.rest[3], self.rest[4], int.from_bytes(self.rest[5:9], "big")
            self.rest = self.rest[9 + length:]
            if kind == 4 and not flags & 1:
                self.socket.sendall(frame(4, 1, 0))
            self.live += kind == 1
            if kind == 3 or (kind in (0, 1) and flags & 1):
                ended.append(self.names.pop(stream, "?"))
        return ended


class Clients:
    def __init__(self):
        self.poll, self.all, self.up = select.epoll(), {}, 0

    def add(self, connection):
        connection.socket.setblocking(False)
        self.all[connection.socket.fileno()] = connection
        self.poll.register(connection.socket, select.EPOLLIN)

    def look(self, timeout):
        """The names of what has ended, with the time."""
        ended = []
        for number, _ in self.poll.poll(timeout):
            connection = self.all[number]
            before = connection.live
            names = connection.ends()
            self.up += connection.live - before
            ended += [(name, time.monotonic()) for name in names]
            if names and (isinstance(connection, Tunnel) or not connection.names):
                self.poll.unregister(number)
                self.all.pop(number).socket.close()
        return ended

    def open(self, what, arguments):
        for number in range(arguments.tunnels):
            self.add(Tunnel(host(number, what["tunnels"])))
            self.come_up(number + 1 - MOST_UNDER_WAY)
        names = [host(number, what["streams"]) for number in range(arguments.streams)]
        # The name's streams stand beside others' on every connection that has any.
        connections = -(-len(names) // STREAMS_EACH)
        opened = arguments.tunnels
        for at in range(connections):
            self.add(Streams(names[at::connections]))
            opened += len(names[at::connections])
            self.come_up(opened - MOST_UNDER_WAY)
        self.come_up(opened)

    def come_up(self, wanted):
        """Waits until that many are up: more at once than the upstream's queue takes would be late."""
        since = time.monotonic()
        while self.live() < wanted:
            if lost := self.look(0.05):
                sys.exit(f"{len(lost)} ended while they were opened")
            if time.monotonic() - since > DEADLINE:
                sys.exit(f"only {self.live()} of {wanted} came up")

    def live(self):
        return self.up


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def schedule_ms(pid):
    """What its threads have run, and what they have waited for a processor (on a busy machine most of all)."""
    ran = waited = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as stat:
            fields = stat.read().split()
        ran, waited = ran + int(fields[0]) / 1e6, waited + int(fields[1]) / 1e6
    return ran, waited


def spell(pid, seconds, step):
    """The gate's CPU seconds over that time, in which `step` is called again and again."""
    before, since, turn = cpu_s(pid), time.monotonic(), 0
    while time.monotonic() - since < seconds:
        step(turn)
        turn += 1
        time.sleep(max(0.0, since + turn * CHANGES_EACH / CHANGES_PER_SECOND - time.monotonic()))
    return cpu_s(pid) - before


def cost_of_changes(pid, changes):
    seconds = changes / CHANGES_PER_SECOND
    quiet = spell(pid, seconds, lambda _: None)
    change = lambda turn: file([(900_000 + turn * CHANGES_EACH + at, f"unrelated-{turn * CHANGES_EACH + at}.cn") for at in range(CHANGES_EACH)])
    return spell(pid, seconds, change), quiet


def cut(clients, wanted):
    """Milliseconds from the registry's answer to each end."""
    body = json.dumps({"number": NUMBER, "access": {"bench": "cancelled"}}).encode()
    status, answer = ask(REGISTRY, "PUT", "/v1/filings/cut.cn", body)
    answered = time.monotonic()
    if status not in (200, 201):
        sys.exit(f"the registry answered {status}: {answer[:500]}")
    ended = []
    while len(ended) < wanted and time.monotonic() - answered < DEADLINE:
        ended += clients.look(0.05)
    # Whoever ends now should not have.
    ended += clients.look(0.5)
    others = [name for name, _ in ended if name != "cut.cn"]
    if others or len(ended) != wanted:
        sys.exit(f"{len(ended)} ended instead of {wanted}, {len(others)} of them others'")
    return sorted((at - answered) * 1000 for _, at in ended)


def one_round(gate, arguments):
    what = {"tunnels": arguments.of_the_name // 2, "streams": arguments.of_the_name - arguments.of_the_name // 2}
    with tempfile.TemporaryDirectory() as work:
        started, answering = [], os.fork()
        if answering == 0:
            upstream()
        try:
            started += start(gate, work)
            file([(0, "cut.cn")] + [(1 + n, f"other-{n}.cn") for n in range(OTHER_NAMES)])
            until("the filings", lambda: b'"allow"' in ask(ADMIN, "GET", f"/v1/verdict?host=other-{OTHER_NAMES - 1}.cn")[1])
            clients = Clients()
            clients.open(what, arguments)
            live, pid = clients.live(), started[1].pid
            changed, quiet = cost_of_changes(pid, arguments.changes)
            processes = [process.pid for process in started] + [os.getpid()]
            before = [schedule_ms(process) for process in processes]
            times = cut(clients, arguments.of_the_name)
            after = [schedule_ms(process) for process in processes]
            spent = [(now[0] - then[0], now[1] - then[1]) for now, then in zip(after, before)]
            return live, times, (changed, quiet), spent
        finally:
            for process in started:
                process.terminate()
            for process in started:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
            os.kill(answering, signal.SIGKILL)
            os.waitpid(answering, 0)


def main():
    arguments = parse_arguments()
    gate = arguments.gate
    if not gate:
        subprocess.run(["cargo", "build", "--release"], check=True)
        gate = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release/beian-gate")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    room = most - 1000
    if 2 * arguments.tunnels + arguments.streams > room:
        arguments.tunnels = min(arguments.tunnels, room // 4)
        arguments.streams = room - 2 * arguments.tunnels
        print(f"{most} descriptors a process: {arguments.tunnels} tunnels and {arguments.streams} streams it is")
    print("| live | of the name | ends: first ms | p50 ms | p99 ms | last ms | ran ms (waited for a processor): registry | gate | this client | gate's CPU ms per 10,000 changes | without changes, same time |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for _ in range(arguments.rounds):
        live, times, (changed, quiet), spent = one_round(os.path.abspath(gate), arguments)
        each = 10_000_000 / arguments.changes
        shown = [times[0], statistics.median(times), times[int(len(times) * 0.99)], times[-1]]
        print(f"| {live} | {len(times)} | " + " | ".join([f"{one:.1f}" for one in shown] + [f"{ran:.0f} ({waited:.0f})" for ran, waited in spent])
              + f" | {(changed - quiet) * each:.0f} | {quiet * each:.0f} |", flush=True)


if __name__ == "__main__":
    main()
