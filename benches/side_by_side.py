#!/usr/bin/env python3
"""The gate beside nginx and HAProxy, at the same work, with the same filings: a table of figures and ratios.

Wants the Debian packages nginx, libnginx-mod-stream, haproxy, wrk and nghttp2-client (h2load), and openssl; Python's
standard library does the rest. Builds nothing but the gate (`cargo build --release`, unless --gate names a binary) and
installs nothing.

    python3 benches/side_by_side.py [--filings 100000] [--rounds 5] [--seconds 3] [--rows plain,tls,h2] [--gate PATH]
    python3 benches/side_by_side.py --quick        # every row, three short rounds: some eight minutes
    python3 benches/side_by_side.py --filings 10000000 --rows memory,start,reload,added --rounds 1 --data /var/tmp/beside

`--data DIR` keeps what is made of the names (maps, the gate's registry and its saved state) for the next run with as many
filings: ten million take minutes. Runs that differ in nothing but --rows and --proxies add to one side_by_side.json, so
that a long table can be measured in parts; its ratios are taken over all that is there.

Each proxy has one worker pinned to CPU 0; the origin (nginx) and the load generator have CPU 1. Rounds are interleaved;
a figure is the median over the rounds, its spread (max - min) / median. CPU is what the scheduler counted for the
proxy's threads, per request (or GiB, or connection); user and system shares come from /proc. The ratio is to the better
of nginx and HAProxy. Rows without requests (memory, start, reload, added) are in standing.py. Writes side_by_side.json and side_by_side.svg into --out after each row, so that what was measured
is kept if it is stopped. Latency is at a fixed rate with both processors kept awake, of one connection; `direct` is the
origin without a proxy. Pingora is no Debian package and is left out. All traffic stays on
loopback; only what this script started is ended.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

# clear, TLS, passthrough, clear with an access log
PORTS = {"nginx": (21010, 21011, 21012, 21013), "haproxy": (21020, 21021, 21022, 21023), "gate": (21030, 21031, 21032, 21033, 21036, 21037)}
ORIGIN, ORIGIN_TLS, ECHO, REGISTRY, ADMIN = 21000, 21001, 21002, 21040, 21050
CLEAR, TLS, PASS, LOGGED, IDLE_CLEAR, IDLE_TLS = range(6)
NAME = "bench.test"
ECHO_NAME = f"echo.{NAME}"
ECHO_CONNECTIONS = 32
# Connections being made at once where those are what is measured.
VISITORS = 16
LATENCY_RATE = 2_000
HOSTS_ASKED = 20_000
IDLE = {"idle": 5_000, "idle_tls": 5_000}
MIB = 1024 * 1024
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = "<html><body>blocked</body></html>" + " " * 3000
BROWSER = {
    "Connection": "keep-alive", "sec-ch-ua": '\\"Chromium\\";v=\\"130\\", \\"Google Chrome\\";v=\\"130\\", \\"Not?A_Brand\\";v=\\"99\\"', "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '\\"Windows\\"', "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1", "Sec-Fetch-Dest": "document",
    "Referer": "https://www.example.com/product/list?category=3", "Accept-Encoding": "gzip, deflate, br, zstd", "Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8",
    "Cookie": "session=0f1e2d3c4b5a69788796a5b4c3d2e1f0; visitor=8a7b6c5d4e3f2a1b; theme=light; lang=zh-CN; cart=10482.1,20391.2,30017.1; consent=necessary.analytics",
}
# row: (what it is, unit of the figure, what the ratio should be)
ROWS = {
    "plain": ("HTTP/1.1 keep-alive, 1 KiB, 20,000 hosts, filings checked", "µs/request", 0.85),
    "browser": ("the same, heads as a browser sends them", "µs/request", 0.85),
    "many": ("the same as the first, every filed host in turn", "µs/request", 0.85),
    "blocked": ("the same as the first, 10 % blocked", "µs/request", 0.85),
    "all_blocked": ("the same, all blocked", "µs/request", None),
    "one_host": ("HTTP/1.1 keep-alive, 1 KiB, one host", "µs/request", 0.85),
    "logged": ("the first with an access log", "µs/request", 0.90),
    "tls": ("HTTPS keep-alive, filing checked", "µs/request", 0.78),
    "h2": ("HTTP/2 over TLS, 16 connections x 4 streams, filing checked", "µs/request", 1.0),
    "handshake": ("new TLS 1.3 connection, full handshake, one request", "µs/connection", 0.40),
    "resumed": ("the same, resumed", "µs/connection", 0.38),
    "connection": ("new clear connection, one request", "µs/connection", 1.05),
    "passthrough": ("SNI passthrough, new connection", "µs/connection", 1.0),
    "passthrough_kept": ("SNI passthrough, 1 KiB keep-alive", "µs/request", 1.0),
    "websocket": ("WebSocket messages of 64 octets, there and back", "µs/message", 1.0),
    "latency": (f"p50 at {LATENCY_RATE} requests a second", "µs", 1.05),
    "bulk": ("1 MiB bodies, clear", "s/GiB", 0.90),
    "bulk_tls": ("1 MiB bodies, TLS", "s/GiB", 0.95),
    "bulk_passthrough": ("1 MiB bodies, SNI passthrough", "s/GiB", 0.88),
    "idle": ("idle clear connection", "KiB", None),
    "idle_tls": ("idle TLS connection (run this row alone)", "KiB", None),
    "memory": ("memory of the filings, above the same proxy without any", "MiB", None),
    "start": ("start, until a filed name is answered", "s", None),
    "reload": ("reload of the config (peers: of the map)", "s", None),
    "added": ("one filing more in force (nginx: by a reload)", "s", None),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filings", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="three rounds of a second each")
    parser.add_argument("--proxies", default=",".join(PORTS), help="for the rows without requests: which of them")
    parser.add_argument("--data", help="a directory that keeps what is made of the names")
    parser.add_argument("--gate", help="path of a beian-gate binary")
    parser.add_argument("--out", default="benches/out")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 3, 1
    arguments.proxies = arguments.proxies.split(",")
    if unknown := set(arguments.proxies) - set(PORTS):
        sys.exit(f"no such proxy: {', '.join(sorted(unknown))}; there are {', '.join(PORTS)}")
    return arguments


def require_tools():
    packages = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl", "taskset": "util-linux"}
    missing = {package for tool, package in packages.items() if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin")}
    if not os.path.exists("/usr/lib/nginx/modules/ngx_stream_module.so"):
        missing.add("libnginx-mod-stream")
    if missing:
        sys.exit("missing Debian packages: " + " ".join(sorted(missing)) + "; apt-get install them and run this again")


def names(count):
    """Filed names, the same for the same count: half of what is asked for is below them."""
    dice = random.Random(20260101)
    syllables = "bei jing shang hai guang zhou shen tian he xin hua dong fang lian tong you ke ji wang da zhong yi".split()
    suffixes = ["cn"] * 5 + ["com"] * 8 + ["com.cn"] * 3 + ["net", "org.cn", "net.cn", "top"]
    made = []
    for number in range(count):
        stem = "".join(dice.choice(syllables) for _ in range(dice.randint(1, 4)))
        made.append(f"{stem}{number}.{dice.choice(suffixes)}")
    return made


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def prepare(work, filed):
    dice = random.Random(7)
    asked = [dice.choice(["", "www.", "m."]) + name for name in dice.sample(filed, min(HOSTS_ASKED, len(filed)))]
    unfiled = [f"unfiled-{number}.cn" for number in range(len(asked))]
    mixed = asked[: len(asked) * 9 // 10] + unfiled[: len(asked) // 10]
    dice.shuffle(mixed)
    plain = {"User-Agent": "bench", "Accept": "*/*"}
    for title, hosts, fields in (("plain", asked, plain), ("browser", asked, BROWSER), ("blocked", mixed, plain), ("all_blocked", unfiled, plain)):
        listing = ",\n".join(f'"{host}"' for host in hosts)
        fields = ", ".join(f'["{name}"] = "{value}"' for name, value in fields.items())
        path = "/product/list/detail?category=3&item=10482&from=home" if title == "browser" else "/1k"
        write(f"{work}/{title}.lua", f"local hosts = {{\n{listing}\n}}\nlocal fields = {{ {fields} }}\nlocal n = 0\n"
              f"request = function()\n  n = n % #hosts + 1\n  fields.Host = hosts[n]\n  return wrk.format('GET', '{path}', fields)\nend\n")
    write(f"{work}/hosts", "\n".join(filed) + "\n")
    # Too many for a table in the source: LuaJIT counts its constants.
    write(f"{work}/many.lua", f"local hosts = {{}}\nfor line in io.lines('{work}/hosts') do hosts[#hosts + 1] = line end\n"
          "local fields = { ['User-Agent'] = 'bench', Accept = '*/*' }\nlocal n = 0\n"
          "request = function()\n  n = n % #hosts + 1\n  fields.Host = hosts[n]\n  return wrk.format('GET', '/1k', fields)\nend\n")
    with open(f"{work}/filings.csv", "w", encoding="utf-8") as file:
        file.write("domain,number,access\n")
        for number, name in enumerate(filed + [NAME]):
            file.write(f"{name},京ICP备{10_000_000 + number}号-1,example-cloud=active\n")
    write(f"{work}/map.nginx", "".join(f".{name} 1;\n" for name in filed + [NAME]))
    write(f"{work}/map.haproxy", "".join(f"{name} 1\n" for name in filed + [NAME]))
    os.makedirs(f"{work}/www/product/list", exist_ok=True)
    write(f"{work}/www/1k", "x" * 1024)
    write(f"{work}/www/product/list/detail", "x" * 1024)
    write(f"{work}/www/1m", "x" * MIB)
    write(f"{work}/www/blocked.html", PAGE)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
                    "-keyout", f"{work}/bench.key", "-out", f"{work}/bench.crt"], check=True, capture_output=True)
    with open(f"{work}/bench.pem", "w", encoding="ascii") as pem:
        for part in ("crt", "key"):
            with open(f"{work}/bench.{part}", encoding="ascii") as file:
                pem.write(file.read())


@contextlib.contextmanager
def made(arguments):
    """A directory with all that is made of the names."""
    with tempfile.TemporaryDirectory() if not arguments.data else contextlib.nullcontext(os.path.abspath(f"{arguments.data}/{arguments.filings}")) as work:
        if not os.path.exists(f"{work}/prepared"):
            for directory in ("www", "tmp"):
                os.makedirs(f"{work}/{directory}", exist_ok=True)
            os.chmod(work, 0o755)
            prepare(work, names(arguments.filings))
            write(f"{work}/prepared", "")
        configs(work, arguments.filings)
        yield work


def imported(work, gate, titles, log):
    """Puts the filings into each gate's registry that has none."""
    for title in titles:
        if not os.path.exists(f"{work}/{title}.imported"):
            subprocess.run([gate, "registry", "import", f"{work}/filings.csv", "-c", f"{work}/{title}.toml"], check=True, stdout=log, stderr=log)
            write(f"{work}/{title}.imported", "")


def configs(work, filings):
    # Names of one bucket are looked through one after the other.
    room, bucket = max(4_194_304, 2 * filings), 128 if filings < 2_000_000 else 512
    common = f"daemon off; pid {work}/%s.pid; error_log {work}/%s.log; events {{ worker_connections 16384; }}"
    temp = "".join(f"{kind}_temp_path {work}/tmp; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    secure = f"ssl_certificate {work}/bench.crt; ssl_certificate_key {work}/bench.key; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;"
    write(f"{work}/origin.conf", f"worker_processes 1; {common % ('origin', 'origin')}\n"
          f"http {{ access_log off; {temp} keepalive_requests 100000000; keepalive_timeout 300s; sendfile on;\n"
          f"server {{ listen 127.0.0.1:{ORIGIN} backlog=4096; listen 127.0.0.1:{ORIGIN_TLS} ssl backlog=4096; {secure} root {work}/www; }} }}\n")
    ports = PORTS["nginx"]
    location = ("location / { if ($filed = 0) { return 451; } proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;\n"
                "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; } "
                f"error_page 451 /blocked.html; location = /blocked.html {{ internal; root {work}/www; }}")
    line = "'{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\"method\":\"$request_method\",\"host\":\"$host\",\"target\":\"$request_uri\",\"user_agent\":\"$http_user_agent\",\"status\":$status,\"bytes_out\":$body_bytes_sent,\"upstream\":\"$upstream_addr\",\"duration\":$request_time}'"
    write(f"{work}/nginx.conf", f"load_module /usr/lib/nginx/modules/ngx_stream_module.so; worker_processes 1; {common % ('nginx', 'nginx')}\n"
          f"http {{ access_log off; {temp} keepalive_requests 100000000; keepalive_timeout 300s; map_hash_max_size {room}; map_hash_bucket_size {bucket};\n"
          f"log_format json escape=json {line};\n"
          f"map $host $filed {{ hostnames; default 0; include {work}/map.nginx; }}\n"
          f"upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 256; keepalive_requests 100000000; }}\n"
          f"server {{ listen 127.0.0.1:{ports[CLEAR]}; server_name {ECHO_NAME}; location / {{ if ($filed = 0) {{ return 451; }} proxy_pass http://127.0.0.1:{ECHO}; proxy_http_version 1.1; "
          "proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; } }\n"
          f"server {{ listen 127.0.0.1:{ports[CLEAR]} default_server backlog=4096; listen 127.0.0.1:{ports[TLS]} ssl http2 backlog=4096; {secure} {location} }}\n"
          f"server {{ listen 127.0.0.1:{ports[LOGGED]} backlog=4096; access_log {work}/nginx.access json buffer=32k flush=1s; {location} }} }}\n"
          f"stream {{ map $ssl_preread_server_name $to {{ hostnames; default 127.0.0.1:1; {NAME} 127.0.0.1:{ORIGIN_TLS}; }}\n"
          f"server {{ listen 127.0.0.1:{ports[PASS]} backlog=4096; ssl_preread on; proxy_pass $to; }} }}\n")
    ports = PORTS["haproxy"]
    filter_ = ("  http-request set-var(txn.host) req.hdr(host),host_only,lower\n"
               f"  acl filed var(txn.host),map_str({work}/map.haproxy) -m found\n"
               f"  acl parent_filed var(txn.host),regsub('^[^.]*\\.',''),map_str({work}/map.haproxy) -m found\n"
               f"  http-request return status 451 content-type text/html hdr Cache-Control no-store file {work}/www/blocked.html unless filed or parent_filed\n"
               "  option forwardfor\n  http-request set-header X-Forwarded-Proto https if { ssl_fc }\n  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }\n"
               f"  use_backend echo if {{ req.hdr(host),host_only,lower -m str {ECHO_NAME} }}\n  default_backend origin\n")
    write(f"{work}/haproxy.cfg", f"global\n  nbthread 1\n  maxconn 6000\n  stats socket {work}/haproxy.sock mode 600 level admin\n  log {work}/log.sock format raw local0\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n  option splice-auto\n"
          f"frontend all\n  bind 127.0.0.1:{ports[CLEAR]} backlog 4096\n  bind 127.0.0.1:{ports[TLS]} backlog 4096 ssl crt {work}/bench.pem alpn h2,http/1.1\n{filter_}"
          f"frontend logged\n  bind 127.0.0.1:{ports[LOGGED]} backlog 4096\n  log global\n  option httplog\n{filter_}"
          f"frontend pass\n  mode tcp\n  bind 127.0.0.1:{ports[PASS]} backlog 4096\n  tcp-request inspect-delay 5s\n  tcp-request content accept if {{ req.ssl_hello_type 1 }}\n"
          f"  use_backend origin_tls if {{ req.ssl_sni -i {NAME} }}\n"
          f"backend origin_tls\n  mode tcp\n  server origin 127.0.0.1:{ORIGIN_TLS}\nbackend echo\n  server echo 127.0.0.1:{ECHO}\nbackend origin\n  http-reuse always\n  server origin 127.0.0.1:{ORIGIN}\n")
    ports = PORTS["gate"]
    exception = f'[enforcement]\nexceptions = [{{ host = "{NAME}", reason = "no filings are held", owner = "bench" }}]\n'
    # A listener of its own does not have a log of its own: a second gate has one.
    for title, listeners, log, registry, admin in (
        ("gate", [(CLEAR, "http"), (TLS, "https"), (PASS, "tls_passthrough")], "off", REGISTRY, ADMIN),
        ("gate-logged", [(LOGGED, "http")], f"{work}/gate.access", REGISTRY + 2, ADMIN + 2),
        # Without filings: what a start leaves free in the heap would hide what connections take.
        ("gate-idle", [(IDLE_CLEAR, "http"), (IDLE_TLS, "https")], "off", REGISTRY + 4, ADMIN + 4),
    ):
        tables = "".join(
            f'[[listener]]\naddress = "127.0.0.1:{ports[kind]}"\nprotocol = "{protocol}"\n'
            + (f'upstreams = ["tcp://127.0.0.1:{ORIGIN_TLS}"]\n' if kind == PASS else "") for kind, protocol in listeners)
        write(f"{work}/{title}.toml", f"""provider = "example-cloud"
workers = 1
{tables}[tls]
directory = "{work}/no-certificates"
certificates = [{{ cert = "{work}/bench.crt", key = "{work}/bench.key" }}]
default_certificate = "bench"
[[site]]
hosts = ["{ECHO_NAME}"]
upstreams = ["http://127.0.0.1:{ECHO}"]
[default_site]
upstreams = ["http://127.0.0.1:{ORIGIN}"]
{exception if title == "gate-idle" else ""}[registry.embedded]
address = "127.0.0.1:{registry}"
database = "sqlite:{work}/{title}.db"
[limits]
connections_per_client = 100000
[cache]
directory = "{work}/{title}"
[log]
access = "{log}"
[admin]
address = "127.0.0.1:{admin}"
""")


def start(command, cpu, log):
    return subprocess.Popen(["taskset", "-c", str(cpu), *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def wait_for(check, what, process, log, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except OSError:
            pass
        if process.poll() is not None:
            with open(log.name, encoding="utf-8") as said:
                sys.exit(f"{what} ended with {process.returncode}:\n{said.read()[-4000:]}")
        time.sleep(0.1)
    sys.exit(f"waited {seconds} s for {what}")


def answers(port):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/1k", headers={"Host": NAME})
    with urllib.request.urlopen(request, timeout=2) as response:
        return response.status == 200


def family(pid):
    """The process and its children: nginx' worker is one."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
            for child in children.read().split():
                found += family(int(child))
    return found


def cpu(pid):
    """Seconds on a CPU as the scheduler counts them, and the part of the ticks that were user time."""
    nanoseconds, user, system = 0, 0, 0
    for one in family(pid):
        for task in os.listdir(f"/proc/{one}/task"):
            with open(f"/proc/{one}/task/{task}/schedstat", encoding="ascii") as stat:
                nanoseconds += int(stat.read().split()[0])
        with open(f"/proc/{one}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
            user, system = user + int(fields[11]), system + int(fields[12])
    return nanoseconds / 1e9, user, system


def memory_kib(pid):
    total = 0
    for one in family(pid):
        with open(f"/proc/{one}/smaps_rollup", encoding="ascii") as rollup:
            total += int(re.search(r"^Pss:\s+(\d+)", rollup.read(), re.M).group(1))
    return total


def to_ms(text):
    value, unit = re.match(r"([\d.]+)(us|ms|s|m)$", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def client(kind, port, much):
    if kind == "spin":
        spin(port)
    if kind == "messages":
        return print(messages(port, much))
    if kind == "paced":
        took = paced(port, much)
        return print(*(took[min(int(len(took) * share), len(took) - 1)] for share in (0.5, 0.99, 0.999)))
    return connections(kind, port, much)


def connections(kind, port, much):
    """Runs in a process of its own. `full`, `resumed`: TLS connections, one request each, for so many seconds; says how
    many were made and how many of them resumed. `idle`, `idle_tls`: so many connections with one request each, kept
    until the input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def ask(session=None, is_clear=False, ending="close"):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not is_clear:
            sock = context.wrap_socket(sock, server_hostname=NAME, session=session)
        sock.sendall(f"GET /1k HTTP/1.1\r\nHost: {NAME}\r\nConnection: {ending}\r\n\r\n".encode())
        held = b""
        while b"\r\n\r\n" not in held or len(held.split(b"\r\n\r\n", 1)[1]) < 1024:
            octets = sock.recv(65536)
            if not octets:
                sys.exit(f"cut short: {held[:200]}")
            held += octets
        if not held.startswith(b"HTTP/1.1 200"):
            sys.exit(f"refused: {held[:200]}")
        return sock

    if kind in IDLE:
        held = [ask(is_clear=kind == "idle", ending="keep-alive") for _ in range(int(much))]
        print("ready", flush=True)
        sys.stdin.read()
        return print(len(held))
    done, until = [], time.monotonic() + much

    def visitor():
        session = None
        while time.monotonic() < until:
            with ask(session) as sock:
                done.append(sock.session_reused)
                session = sock.session if kind == "resumed" else None

    # With one connection under way at a time, every step of it would wake a proxy that sleeps.
    with concurrent.futures.ThreadPoolExecutor(VISITORS) as visitors:
        for one in [visitors.submit(visitor) for _ in range(VISITORS)]:
            one.result()
    made, resumed = len(done), sum(done)
    print(made, resumed)


def echo():
    """An upstream that switches protocols and sends back what it gets, until it is ended."""
    listening = socket.create_server(("127.0.0.1", ECHO), backlog=512)
    events, open_ = select.epoll(), {}
    events.register(listening.fileno(), select.EPOLLIN)
    while True:
        for number, _ in events.poll():
            if number == listening.fileno():
                sock = listening.accept()[0]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_[sock.fileno()] = [sock, b""]
                events.register(sock.fileno(), select.EPOLLIN)
                continue
            sock, head = open_[number]
            try:
                octets = sock.recv(65536)
                if head is not None:
                    head += octets
                    open_[number][1], octets = (head, None) if b"\r\n\r\n" not in head else (None, SWITCH)
                if octets:
                    sock.sendall(octets)
            except OSError:
                octets = b""
            if octets == b"":
                events.unregister(number)
                open_.pop(number)[0].close()


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


def messages(port, seconds):
    """WebSocket messages over several connections, one on its way on each; says how many came back."""
    ask = (f"GET / HTTP/1.1\r\nHost: {ECHO_NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()
    message = b"\x82\xc0\x01\x02\x03\x04" + bytes(64)
    events, socks = select.epoll(), {}
    for _ in range(ECHO_CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(ask)
        head = b""
        while b"\r\n\r\n" not in head:
            octets = sock.recv(4096)
            if not octets:
                sys.exit(f"no switch: {head[:200]}")
            head += octets
        if not head.startswith(b"HTTP/1.1 101"):
            sys.exit(f"no switch: {head[:200]}")
        socks[sock.fileno()] = [sock, 0]
        events.register(sock.fileno(), select.EPOLLIN)
    for sock, _ in socks.values():
        sock.sendall(message)
    done, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        for number, _ in events.poll(1):
            one = socks[number]
            one[1] += len(one[0].recv(65536))
            if one[1] >= len(message):
                one[1], done = one[1] - len(message), done + 1
                one[0].sendall(message)
    return done


def paced(port, seconds):
    """Requests at a fixed rate on one connection; microseconds that each took, in order."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ask, took, due = f"GET /1k HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode(), [], time.perf_counter()
    until = due + seconds
    while due < until:
        due += 1 / LATENCY_RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        sent, held = time.perf_counter(), 0
        sock.sendall(ask)
        # Head and body come in one piece here or in two.
        while held < 1024:
            octets = len(sock.recv(65536))
            if not octets:
                sys.exit("cut short")
            held += octets
        took.append((time.perf_counter() - sent) * 1e6)
    return sorted(took)


def spin(cpu_number):
    """Keeps a processor awake without taking it from anybody."""
    os.sched_setaffinity(0, {cpu_number})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        pass


def load(work, row, proxy, seconds):
    ports = PORTS[proxy]
    tls = lambda port, path: [f"--connect-to=127.0.0.1:{port}", f"https://{NAME}:{port}{path}"]
    wrk = lambda port, path, *more: ["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", *more, f"http://127.0.0.1:{port}{path}"]
    if row == "websocket":
        command = [sys.executable, os.path.abspath(__file__), "client", "messages", str(ports[CLEAR]), str(seconds)]
    elif row in ("handshake", "resumed", "passthrough"):
        kind, port = ("resumed" if row == "resumed" else "full"), ports[PASS if row == "passthrough" else TLS]
        command = [sys.executable, os.path.abspath(__file__), "client", kind, str(port), str(seconds)]
    elif row in ("tls", "h2", "bulk_tls", "bulk_passthrough", "passthrough_kept"):
        port, path = ports[PASS if "passthrough" in row else TLS], "/1m" if "bulk" in row else "/1k"
        shape = {"h2": ["-c16", "-m4"], "tls": ["--h1", "-c64"], "passthrough_kept": ["--h1", "-c64"]}.get(row, ["--h1", "-c8"])
        command = ["h2load", "-t1", "-D", str(seconds), *shape, *tls(port, path)]
    elif row in ("one_host", "connection", "bulk"):
        more = ["-H", f"Host: {NAME}"] + (["-H", "Connection: close"] if row == "connection" else []) + (["-c8"] if row == "bulk" else [])
        command = wrk(ports[CLEAR], "/1m" if row == "bulk" else "/1k", *more)
    else:
        script = "plain" if row == "logged" else row
        command = wrk(ports[LOGGED if row == "logged" else CLEAR], "/1k", "-s", f"{work}/{script}.lua")
    run = subprocess.run(["taskset", "-c", "1", *command], capture_output=True, text=True, timeout=seconds + 60, check=False)
    if run.returncode:
        sys.exit(f"{proxy}, {row}: {run.stdout[-500:]}{run.stderr[-500:]}")
    return read_load(row, command, run.stdout, seconds)


def read_load(row, command, text, seconds):
    number = lambda pattern: int(found.group(1)) if (found := re.search(pattern, text)) else 0
    p50 = p99 = None
    if command[0] == "h2load":
        done, failed = number(r"(\d+) succeeded"), number(r"(\d+) failed") + number(r"(\d+) 4xx") + number(r"(\d+) 5xx")
    elif command[0] == "wrk":
        done, failed = number(r"(\d+) requests in"), number(r"Non-2xx or 3xx responses: (\d+)")
        p50, p99 = (to_ms(re.search(rf"^\s+{share}%\s+(\S+)\s*$", text, re.M).group(1)) for share in (50, 99))
    elif row == "websocket":
        done, failed = int(text), 0
    else:
        done, resumed = map(int, text.split())
        failed = done - resumed if row == "resumed" else resumed
        failed = 0 if failed <= 1 else failed
    return {"done": done, "failed": failed, "rate": done / seconds, "p50_ms": p50, "p99_ms": p99, "raw": text}


def gate_for(row):
    return "gate-logged" if row == "logged" else "gate-idle" if row in IDLE else "gate"


def measure(work, row, proxy, processes, seconds, is_first):
    process = processes[gate_for(row) if proxy == "gate" else proxy]
    if row in IDLE:
        return measure_idle(row, proxy, process)
    if row == "latency":
        return measure_latency(PORTS[proxy][CLEAR], process, seconds)
    if is_first:
        load(work, row, proxy, 1)
    before = cpu(process.pid)
    result = load(work, row, proxy, seconds)
    used, user, system = (after - earlier for after, earlier in zip(cpu(process.pid), before))
    share = result["failed"] / max(result["done"], 1)
    expected = {"blocked": 0.1, "all_blocked": 1.0}.get(row, 0.0)
    if abs(share - expected) > 0.02:
        sys.exit(f"{proxy}, {row}: {share:.1%} were refused, expected {expected:.0%}; not the same work\n{result['raw']}")
    figure = used / result["done"] * (1024 if "bulk" in row else 1e6)
    user_share = user / max(user + system, 1)
    return {"figure": figure, "user": figure * user_share, "system": figure * (1 - user_share), "rate": result["rate"],
            "p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"], "memory_mib": memory_kib(process.pid) / 1024}


def measure_latency(port, process, seconds):
    """Every proxy's other side is the same, `direct` too: the origin, and a client that waits as long."""
    spinners = [subprocess.Popen([sys.executable, os.path.abspath(__file__), "client", "spin", str(number), "0"]) for number in (0, 1)]
    try:
        run = subprocess.run(["taskset", "-c", "1", sys.executable, os.path.abspath(__file__), "client", "paced", str(port), str(max(seconds, 2))],
                             capture_output=True, text=True, timeout=seconds + 60, check=False)
        direct = subprocess.run(["taskset", "-c", "1", sys.executable, os.path.abspath(__file__), "client", "paced", str(ORIGIN), "1"],
                                capture_output=True, text=True, timeout=60, check=False)
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
    if run.returncode or direct.returncode:
        sys.exit(f"latency: {run.stdout}{run.stderr}{direct.stderr}")
    p50, p99, p999 = map(float, run.stdout.split())
    bare50, bare99, _ = map(float, direct.stdout.split())
    return {"figure": p50, "user": None, "system": None, "rate": LATENCY_RATE, "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3, "p999_ms": p999 / 1e3,
            "direct_p50_ms": bare50 / 1e3, "direct_p99_ms": bare99 / 1e3, "memory_mib": memory_kib(process.pid) / 1024}


def measure_idle(row, proxy, process):
    clear, tls = (IDLE_CLEAR, IDLE_TLS) if proxy == "gate" else (CLEAR, TLS)
    port, before = PORTS[proxy][clear if row == "idle" else tls], memory_kib(process.pid)
    holder = subprocess.Popen(["taskset", "-c", "1", sys.executable, os.path.abspath(__file__), "client", row, str(port), str(IDLE[row])],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline() != "ready\n":
            sys.exit(f"{proxy}, {row}: the connections were not made")
        after = memory_kib(process.pid)
    finally:
        holder.communicate("", timeout=60)
    return {"figure": (after - before) / IDLE[row], "user": None, "system": None, "rate": None, "p50_ms": None, "p99_ms": None, "memory_mib": after / 1024}


def summary(row, rounds):
    def median(key):
        values = [one[key] for one in rounds if one[key] is not None]
        return statistics.median(values) if values else None
    figures = [one["figure"] for one in rounds]
    medians = {key: median(key) for key in rounds[0]}
    if row in IDLE:
        # What the allocator kept from an earlier round is not grown again: the first round tells.
        medians["figure"] = figures[0]
    return medians | {"p999_ms": medians.get("p999_ms"), "spread": (max(figures) - min(figures)) / max(abs(medians["figure"]), 1e-9), "rounds": figures}


def with_ratios(results):
    for by_proxy in results.values():
        best = min((one["figure"] for proxy, one in by_proxy.items() if proxy != "gate"), default=0)
        for one in by_proxy.values():
            one["ratio"] = one["figure"] / best if best > 0 else None
    return results


def table(results):
    show = lambda value, form: "–" if value is None else format(value, form)
    lines = ["| work | proxy | CPU, memory or time | user + system | spread | ratio to best peer | per second | p50 / p99 / p99.9 ms | memory MiB |", "|" + " --- |" * 9]
    for row, by_proxy in results.items():
        title, unit, aim = ROWS[row]
        for proxy, one in by_proxy.items():
            ratio = show(one["ratio"], ".2f") + (f" (aim {aim:.2f})" if proxy == "gate" and aim else "")
            lines.append(f"| {title} | {proxy} | {one['figure']:.2f} {unit} | {show(one['user'], '.2f')} + {show(one['system'], '.2f')} | {one['spread']:.0%} | {ratio} "
                         f"| {show(one['rate'], '.0f')} | {show(one['p50_ms'], '.2f')} / {show(one['p99_ms'], '.2f')} / {show(one.get('p999_ms'), '.2f')} | {one['memory_mib']:.0f} |")
    return "\n".join(lines)


def plot(results):
    """Ratios as bars: shorter is cheaper; the upright line is the best peer, the short marks are what the gate aims at."""
    left, scale, height, colours = 420, 180, 16, {"nginx": "#8aa", "haproxy": "#a8a", "gate": "#d50"}
    parts, y = [], 30
    for row, by_proxy in results.items():
        parts.append(f'<text x="10" y="{y + height * 1.8:.0f}">{ROWS[row][0]}</text>')
        for proxy, one in by_proxy.items():
            ratio = max(0.0, one["ratio"] or 0.0)
            width = min(ratio, 3.0) * scale
            parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{height - 2}" fill="{colours[proxy]}"/>'
                         f'<text x="{left + width + 5:.0f}" y="{y + height - 4}">{proxy} {ratio:.2f}</text>')
            y += height
        if ROWS[row][2]:
            x = left + ROWS[row][2] * scale
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - height}" y2="{y}" stroke="#000" stroke-width="2"/>')
        y += 12
    parts.append(f'<line x1="{left + scale}" x2="{left + scale}" y1="20" y2="{y}" stroke="#444" stroke-dasharray="3"/>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + 3 * scale + 120}" height="{y + 20}" font-family="sans-serif" font-size="12">'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n')


def stop(processes):
    for process in processes.values():
        process.send_signal(signal.SIGTERM)
    for process in processes.values():
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def main():
    if sys.argv[1:2] == ["echo"]:
        return echo()
    if sys.argv[1:2] == ["client"]:
        return client(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    arguments = parse_arguments()
    require_tools()
    os.environ["PATH"] += ":/usr/sbin"
    rows = arguments.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        sys.exit(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    gate = arguments.gate
    if not gate:
        subprocess.run(["cargo", "build", "--release"], check=True)
        gate = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release", "beian-gate")
    import standing  # It uses this module.
    processes, results, failed = {}, earlier(arguments), []
    loaded = [row for row in rows if row not in standing.ROWS]
    with made(arguments) as work, open(os.path.join(work, "processes.log"), "w", encoding="utf-8") as log:
        gates = sorted({"gate"} | {gate_for(row) for row in loaded})
        imported(work, gate, [title for title in gates if title != "gate-idle"], log)
        try:
            if len(loaded) < len(rows):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{work}/log.sock")
                origin = start(["nginx", "-c", f"{work}/origin.conf", "-p", work], 1, log)
                try:
                    measured = standing.measure(work, gate, arguments, log)
                finally:
                    stop({"origin": origin})
                for row in [row for row in rows if row in standing.ROWS]:
                    results[row] = results.get(row, {}) | {proxy: summary(row, rounds) for proxy, rounds in measured[row].items()}
                keep(arguments, with_ratios(results))
            if not loaded:
                return show(arguments, results, failed)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{work}/log.sock")
            sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sink.bind(f"{work}/log.sock")
            os.chmod(f"{work}/log.sock", 0o777)
            processes["origin"] = start(["nginx", "-c", f"{work}/origin.conf", "-p", work], 1, log)
            processes["echo"] = start([sys.executable, os.path.abspath(__file__), "echo"], 1, log)
            processes["nginx"] = start(["nginx", "-c", f"{work}/nginx.conf", "-p", work], 0, log)
            processes["haproxy"] = start(["haproxy", "-f", f"{work}/haproxy.cfg"], 0, log)
            for title in gates:
                processes[title] = start([gate, "run", "-c", f"{work}/{title}.toml"], 0, log)
            others = {"gate": CLEAR, "gate-logged": LOGGED, "gate-idle": IDLE_CLEAR}
            ready = [(title, PORTS[title][CLEAR]) for title in ("nginx", "haproxy")] + [(title, PORTS["gate"][others[title]]) for title in gates]
            for title, port in ready:
                wait_for(lambda port=port: answers(port), title, processes[title], log)
            for row in loaded:
                try:
                    results[row] = measure_row(work, row, processes, arguments)
                except SystemExit as refused:
                    # One row that can't be measured is no reason to lose the others.
                    failed.append(f"not measured: {row}: {refused.code}")
                    print(failed[-1], file=sys.stderr)
                keep(arguments, with_ratios(results))
        finally:
            stop(processes)
    return show(arguments, results, failed)


def show(arguments, results, failed):
    print(f"{arguments.filings:,} filings, {arguments.rounds} rounds of {arguments.seconds} s\n\n{table(results)}\n{asides(results)}")
    if failed:
        sys.exit("\n".join(failed))


def measure_row(work, row, processes, arguments):
    rounds = {proxy: [] for proxy in PORTS}
    for number in range(arguments.rounds):
        for proxy, measured in rounds.items():
            measured.append(measure(work, row, proxy, processes, arguments.seconds, number == 0))
            print(f"{row} round {number + 1} {proxy}: {measured[-1]['figure']:.2f} {ROWS[row][1]}", file=sys.stderr)
    return {proxy: summary(row, measured) for proxy, measured in rounds.items()}


def head(arguments):
    return {"filings": arguments.filings, "rounds": arguments.rounds, "seconds": arguments.seconds}


def earlier(arguments):
    """What runs of the same kind have left."""
    path = os.path.join(arguments.out, "side_by_side.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        kept = json.load(file)
    return kept["results"] if head(arguments).items() <= kept.items() else {}


def keep(arguments, results):
    os.makedirs(arguments.out, exist_ok=True)
    write(os.path.join(arguments.out, "side_by_side.json"), json.dumps(head(arguments) | {"results": results}, indent=1))
    write(os.path.join(arguments.out, "side_by_side.svg"), plot(results))


def standing_aside(results):
    return [f"{proxy}: {results['start'][proxy]['start_cpu_s']:.2f} s of CPU for the start; {one['empty_mib']:.0f} MiB without filings, {one['peak_in_reload_mib']:.0f} MiB at most while it reloads"
            for proxy, one in results.get("reload", results["start"]).items()]


def asides(results):
    """What two rows say together, and what has more than one figure."""
    lines = []
    if "plain" in results and "logged" in results:
        ratios = {proxy: results["logged"][proxy]["figure"] / results["plain"][proxy]["figure"] for proxy in PORTS}
        lines.append("access log on, against off: " + ", ".join(f"{proxy} {ratio:.2f}" for proxy, ratio in ratios.items()) + " (aim: gate 1.06)")
    if "start" in results:
        lines += standing_aside(results)
    if "latency" in results:
        for proxy, one in results["latency"].items():
            added = (one["p50_ms"] - one["direct_p50_ms"]) * 1e3, (one["p99_ms"] - one["direct_p99_ms"]) * 1e3
            lines.append(f"latency of {proxy}: p50 {one['p50_ms'] * 1e3:.0f}, p99 {one['p99_ms'] * 1e3:.0f}, p99.9 {one['p999_ms'] * 1e3:.0f} µs; above the origin's own {added[0]:.0f} and {added[1]:.0f} µs")
    return "\n".join([""] + lines)


if __name__ == "__main__":
    main()
