#!/usr/bin/env python3
"""The hostile corpus against nginx, HAProxy and a plain hyper server: who reads what in another way than the gate.

    python3 tests/conformance/differential.py [--gate PATH] [--corpus FILE] [--rows] [--behind]

The corpus is what the integration suite sends (`HOSTILE_CORPUS=FILE cargo test --test it hostile::`), with what the
gate makes of it, which that suite has checked. nginx and HAProxy (Debian packages) forward to an upstream that
records; hyper is the gate's own registry port, which serves nothing else than hyper's HTTP/1.1. What is absent is
skipped, by name. All on loopback; only what this script started is ended.

With --behind the peers stand where upstreams do, behind the gate: whatever it lets through, a second parser must make
of it no request for a name that was not judged, and none of what hides in another's body. Fails if one does; needs
--gate. This is what CI runs.
"""

import argparse
import collections
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

NGINX, HAPROXY, HYPER, UPSTREAM = 21201, 21202, 21203, 21204
GATE, ADMIN, REGISTRY = 21205, 21206, 21207
FILED = ("filed.cn", "also-filed.cn", "own-cert.cn")
PATIENCE = 1.0


class Upstream:
    """Answers whatever looks like a head, and records it."""

    def __init__(self):
        self.heads, self.lock = [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", UPSTREAM), backlog=512)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.connected, args=(connection,), daemon=True).start()

    def connected(self, connection):
        # A peer that resets has heard enough.
        with contextlib.suppress(OSError):
            self.serve(connection)

    def serve(self, connection):
        held = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in held:
                    try:
                        octets = connection.recv(65536)
                    except OSError:
                        return
                    if not octets:
                        return
                    held += octets
                head, held = held.split(b"\r\n\r\n", 1)
                with self.lock:
                    self.heads.append(head)
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                left = int(length[1]) if length else 0
                while len(held) < left:
                    octets = connection.recv(65536)
                    if not octets:
                        return
                    held += octets
                held = held[left:]
                while re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
                    # nginx and HAProxy write chunks plainly: a size, its octets, no trailers.
                    chunk = re.match(rb"([0-9a-fA-F]+)\r\n", held)
                    end = chunk.end() + int(chunk[1], 16) + 2 if chunk else 0
                    if chunk and len(held) >= end:
                        held = held[end:]
                        if int(chunk[1], 16) == 0:
                            break
                        continue
                    octets = connection.recv(65536)
                    if not octets:
                        return
                    held += octets
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                except OSError:
                    return

    def taken(self):
        with self.lock:
            heads, self.heads = self.heads, []
        return heads


def ask(port, octets):
    """Statuses of the answers on one connection."""
    got = b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.sendall(octets)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                got += chunk
        except OSError:
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", got) if status != b"100"]


def of_gate(expect):
    """What the gate makes of a row: `read` (forwarded or blocked as what it is) or `refused`."""
    kinds = re.findall(r"Forward|Block|Ip|Status\(\d+\)|Bad|Refuse|ForwardOrRefuse", expect)
    return "read" if kinds and kinds[0] in ("Forward", "Block", "Ip") else "refused"


def of_peer(statuses, heads):
    if not statuses:
        return "refused"
    return "refused" if 400 <= statuses[0] < 600 and not heads and statuses[0] not in (403, 404, 429) else "read"


def why(octets):
    """The class that a row is of, for the table; the first that fits."""
    head = octets.split(b"\r\n\r\n")[0]
    lower = head.lower()
    line = head.split(b"\n")[0]
    hosts = re.findall(rb"(?i)\nhost[ \t]*:[ \t]*([^\r\n]*)", head)
    rows = [
        ("a bare LF or CR, or NUL", re.search(rb"(?<!\r)\n|\r(?!\n)|\0", head)),
        ("two Host fields", len(hosts) > 1),
        ("a folded line, or space around a name", re.search(rb"\r\n[ \t]|\r\n[^:\r\n]*[ \t]:", head)),
        ("transfer-encoding with content-length, or twice", lower.count(b"\ntransfer-encoding") > 1 or b"\ntransfer-encoding" in lower and b"\ncontent-length" in lower),
        ("another transfer-encoding than `chunked`", b"\ntransfer-encoding" in lower and not re.search(rb"\ntransfer-encoding: ?chunked(\r\n|$)", lower)),
        ("chunks that are odd", b"\ntransfer-encoding" in lower),
        ("content-length that is odd, or twice", b"\ncontent-length" in lower and (lower.count(b"\ncontent-length") > 1 or not re.search(rb"\ncontent-length: ?\d{1,18}(\r\n|$)", lower))),
        ("no Host", not hosts),
        ("an absolute target, or none", not re.match(rb"[A-Z]+ [/*]", line)),
        ("a Host that is no name", not re.fullmatch(rb"[A-Za-z0-9.-]+(:\d+)?", hosts[0].strip() if hosts else b"")),
        ("an address as Host", re.fullmatch(rb"(0x)?[0-9a-fA-F.x]+(:\d+)?|\[.*", hosts[0].strip() if hosts else b"")),
        ("a method that is refused", re.match(rb"(CONNECT|TRACE)", line)),
    ]
    return next((name for name, fits in rows if fits), "other")


def nginx_config(work):
    return f"""daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx.log;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
server {{ listen 127.0.0.1:{NGINX}; location / {{ proxy_pass http://127.0.0.1:{UPSTREAM}; proxy_http_version 1.1; proxy_ignore_client_abort on;
proxy_set_header Host $http_host; proxy_set_header Connection ""; }} }} }}"""


HAPROXY_CONFIG = f"""defaults
  mode http
  timeout connect 2s
  timeout client 2s
  timeout server 2s
frontend f
  bind 127.0.0.1:{HAPROXY}
  default_backend b
backend b
  server s 127.0.0.1:{UPSTREAM}
"""


def start(work, gate, with_hyper=True):
    """Peers that are here: name, port, process."""
    peers = []
    path = os.environ["PATH"] + ":/usr/sbin"
    for name, port, config, command in (
        ("nginx", NGINX, nginx_config(work), lambda binary, file: [binary, "-c", file, "-p", work]),
        ("haproxy", HAPROXY, HAPROXY_CONFIG, lambda binary, file: [binary, "-db", "-f", file]),
    ):
        binary = shutil.which(name, path=path)
        if not binary:
            print(f"SKIPPED: {name} is not here (apt-get install {name})")
            continue
        file = f"{work}/{name}.conf"
        with open(file, "w", encoding="utf-8") as out:
            out.write(config)
        peers.append((name, port, subprocess.Popen(command(binary, file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
    if not with_hyper:
        pass
    elif gate:
        with open(f"{work}/hyper.toml", "w", encoding="utf-8") as out:
            out.write(f'provider = "p"\n[registry.embedded]\naddress = "127.0.0.1:{HYPER}"\ndatabase = "sqlite:{work}/r.db"\n')
        command = [os.path.abspath(gate), "registry", "serve", "-c", f"{work}/hyper.toml"]
        peers.append(("hyper", HYPER, subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
    else:
        print("SKIPPED: hyper (--gate names no binary)")
    for name, port, process in peers:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            sys.exit(f"{name} did not start ({process.poll()})")
    return peers


def start_gate(work, gate, peer):
    """The gate, with that peer as the upstream of every name."""
    with open(f"{work}/gate.toml", "w", encoding="utf-8") as out:
        out.write(f"""provider = "example-cloud"
[[listener]]
address = "127.0.0.1:{GATE}"
protocol = "http"
[default_site]
upstreams = ["http://127.0.0.1:{peer}"]
[registry.embedded]
address = "127.0.0.1:{REGISTRY}"
database = "sqlite:{work}/gate-{peer}.db"
[cache]
directory = "{work}/state-{peer}"
[log]
access = "off"
[admin]
address = "127.0.0.1:{ADMIN}"
""")
    process = subprocess.Popen([os.path.abspath(gate), "run", "-c", f"{work}/gate.toml"], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def call(port, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"content-type": "application/json"}, method="PUT" if body else "GET")
        return urllib.request.urlopen(request, timeout=5).read()

    for _ in range(600):
        try:
            call(ADMIN, "/readyz")
            break
        except OSError:
            time.sleep(0.05)
    for number, name in enumerate(FILED):
        document = {"number": f"京ICP备2000000{number + 1}号-1", "access": {"example-cloud": "active"}}
        call(REGISTRY, f"/v1/filings/{name}", json.dumps(document).encode())
    for _ in range(600):
        if b'"allow"' in call(ADMIN, f"/v1/verdict?host={FILED[-1]}"):
            return process
        time.sleep(0.05)
    sys.exit("the gate did not learn of its filings")


def behind(work, gate, rows):
    """How many rows were read otherwise than judged by a peer behind the gate."""
    upstream, wrong, seen = Upstream(), 0, 0
    peers = start(work, None, with_hyper=False)
    try:
        for name, port, _ in peers:
            process = start_gate(work, gate, port)
            try:
                for expect, octets in rows:
                    ask(GATE, octets)
                    # What comes late is looked at with the next row.
                    heads = upstream.taken()
                    seen += len(heads)
                    hosts = [re.findall(rb"(?i)\r\nhost: *([^\r\n]*)", head) for head in heads]
                    is_judged = all(len(host) == 1 and re.fullmatch(rb"([a-z0-9_-]+\.)*(" + "|".join(FILED).encode() + rb")", host[0]) for host in hosts)
                    # A body that turns out malformed ends a request that has begun; what hides in it is none.
                    hidden = sum(b" /hidden " in head.split(b"\r\n")[0] for head in heads)
                    if not is_judged or hidden > max(0, expect.count("Forward") - 1):
                        wrong += 1
                        print(f"{name} behind the gate: {expect} {octets[:300]}\n    seen: {heads}")
                if process.poll() is not None:
                    sys.exit(f"the gate ended: {process.returncode}")
            finally:
                process.terminate()
                process.wait(40)
    finally:
        for _, _, process in peers:
            process.terminate()
            process.wait(20)
    print(f"{len(rows)} rows, {', '.join(name for name, _, _ in peers) or 'no peer'} behind the gate: {seen} requests seen, {wrong} rows read otherwise")
    return wrong


def corpus(path):
    if not os.path.exists(path):
        names = ["names", "request_line", "framing", "keepalive"]
        environment = {**os.environ, "HOSTILE_CORPUS": os.path.abspath(path)}
        subprocess.run(["cargo", "test", "--test", "it", "--", *(f"hostile::{name}" for name in names)], env=environment, check=True)
    with open(path, encoding="ascii") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [(expect, bytes.fromhex(octets)) for expect, octets in dict.fromkeys(map(tuple, rows))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", help="path of a beian-gate binary, whose registry is the hyper server")
    parser.add_argument("--corpus", help="a corpus that was recorded; else the suite is run")
    parser.add_argument("--rows", action="store_true", help="prints every row that is read differently")
    parser.add_argument("--behind", action="store_true", help="the peers behind the gate: a test")
    options = parser.parse_args()
    if options.behind and not options.gate:
        parser.error("--behind needs --gate")
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        rows = corpus(options.corpus or f"{work}/corpus")
        if options.behind:
            sys.exit(1 if behind(work, options.gate, rows) else 0)
        upstream, peers = Upstream(), start(work, options.gate)
        differ, more = collections.Counter(), collections.Counter()
        try:
            for expect, octets in rows:
                wanted = of_gate(expect)
                for name, port, _ in peers:
                    upstream.taken()
                    statuses = ask(port, octets)
                    found = of_peer(statuses, upstream.taken())
                    if found != wanted:
                        (differ if wanted == "refused" else more)[name, why(octets)] += 1
                        if options.rows:
                            print(name, "reads" if found == "read" else "refuses", statuses, octets[:200])
        finally:
            for _, _, process in peers:
                process.terminate()
                process.wait(20)
    names = [name for name, _, _ in peers]
    for title, table in (("refused by the gate, read by", differ), ("read by the gate, refused by", more)):
        print(f"\n| {title} | " + " | ".join(names) + " |\n| --- |" + " --- |" * len(names))
        for kind in sorted({kind for _, kind in table}):
            print(f"| {kind} | " + " | ".join(str(table[name, kind]) for name in names) + " |")
    print(f"\n{len(rows)} rows")


if __name__ == "__main__":
    main()
