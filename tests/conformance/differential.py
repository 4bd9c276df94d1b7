#!/usr/bin/env python3
"""The hostile corpus against nginx, HAProxy and a plain hyper server: who reads what in another way than the gate.

    python3 tests/conformance/differential.py [--gate PATH] [--corpus FILE] [--rows]

The corpus is what the integration suite sends (`HOSTILE_CORPUS=FILE cargo test --test it hostile::`), with what the
gate makes of it, which that suite has checked. nginx and HAProxy (Debian packages) forward to an upstream that
records; hyper is the gate's own registry port, which serves nothing else than hyper's HTTP/1.1. What is absent is
skipped, by name. All on loopback; only what this script started is ended.
"""

import argparse
import collections
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

NGINX, HAPROXY, HYPER, UPSTREAM = 21201, 21202, 21203, 21204
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
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

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
                if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
                    held = b""
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
proxy_set_header Host $host; proxy_set_header Connection ""; }} }} }}"""


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


def start(work, gate):
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
    if gate:
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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        rows = corpus(options.corpus or f"{work}/corpus")
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
