#!/usr/bin/env python3
"""The gate beside nginx and HAProxy, at the same work, with the same filings: a table of figures and ratios.

Wants the Debian packages nginx, haproxy, wrk and nghttp2-client (h2load), and openssl; Python's standard library does
the rest. Builds nothing but the gate (`cargo build --release`, unless --gate names a binary) and installs nothing.

    python3 benches/side_by_side.py [--filings 100000] [--rounds 3] [--seconds 4] [--rows plain,blocked,tls,h2]

Each proxy has one worker pinned to CPU 0; the origin (nginx, 1 KiB answers) and the load generator have CPU 1. Rounds
are interleaved; a figure is the median over the rounds, its spread (max - min) / median. CPU is user + system time of
the proxy's processes per request, from /proc. All traffic stays on loopback; only what this script started is ended.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

PORTS = {"origin": 21000, "nginx": (21010, 21011), "haproxy": (21020, 21021), "gate": (21030, 21031)}
REGISTRY, ADMIN = 21032, 21033
HOSTS_ASKED = 20_000
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = "<html><body>blocked</body></html>" + " " * 3000
ROWS = {
    "plain": "HTTP/1.1 keep-alive, 1 KiB, filings checked",
    "blocked": "the same, 10 % blocked",
    "tls": "HTTPS keep-alive",
    "h2": "HTTP/2 over TLS, 16 connections x 4 streams",
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filings", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--gate", help="path of a beian-gate binary")
    parser.add_argument("--out", default="benches/out")
    return parser.parse_args()


def require_tools():
    packages = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl", "taskset": "util-linux"}
    missing = sorted({package for tool, package in packages.items() if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin")})
    if missing:
        sys.exit("missing Debian packages: " + " ".join(missing) + "; apt-get install them and run this again")


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
    blocked = [f"unfiled-{number}.cn" for number in range(len(asked) // 10)]
    mixed = asked[: len(asked) - len(blocked)] + blocked
    dice.shuffle(mixed)
    for title, hosts in (("asked", asked), ("mixed", mixed)):
        listing = ",\n".join(f'"{host}"' for host in hosts)
        write(f"{work}/{title}.lua", f"local hosts = {{\n{listing}\n}}\nlocal n = 0\n"
              "request = function()\n  n = n % #hosts + 1\n"
              "  return wrk.format('GET', '/1k', { Host = hosts[n], ['User-Agent'] = 'bench', Accept = '*/*' })\nend\n")
    with open(f"{work}/filings.csv", "w", encoding="utf-8") as file:
        file.write("domain,number,access\n")
        for number, name in enumerate(filed + ["bench.test"]):
            file.write(f"{name},京ICP备{10_000_000 + number}号-1,example-cloud=active\n")
    write(f"{work}/map.nginx", "".join(f".{name} 1;\n" for name in filed) + ".bench.test 1;\nlocalhost 1;\n")
    write(f"{work}/map.haproxy", "".join(f"{name} 1\n" for name in filed) + "bench.test 1\nlocalhost 1\n")
    write(f"{work}/www/1k", "x" * 1024)
    write(f"{work}/blocked.http", f"HTTP/1.1 451 Unavailable For Legal Reasons\r\nContent-Type: text/html\r\nCache-Control: no-store\r\nContent-Length: {len(PAGE)}\r\n\r\n{PAGE}")
    write(f"{work}/www/blocked.html", PAGE)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test,DNS:localhost",
                    "-keyout", f"{work}/bench.key", "-out", f"{work}/bench.crt"], check=True, capture_output=True)
    shutil.copy(f"{work}/bench.crt", f"{work}/bench.pem")
    with open(f"{work}/bench.pem", "a", encoding="ascii") as pem, open(f"{work}/bench.key", encoding="ascii") as key:
        pem.write(key.read())


def configs(work):
    common = f"daemon off; pid {work}/%s.pid; error_log {work}/%s.log; events {{ worker_connections 8192; }}"
    temp = "".join(f"{kind}_temp_path {work}/tmp; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    write(f"{work}/origin.conf", f"worker_processes 1; {common % ('origin', 'origin')}\n"
          f"http {{ access_log off; {temp} keepalive_requests 100000000; keepalive_timeout 300s;\n"
          f"server {{ listen 127.0.0.1:{PORTS['origin']} backlog=4096; root {work}/www; }} }}\n")
    clear, tls = PORTS["nginx"]
    write(f"{work}/nginx.conf", f"worker_processes 1; {common % ('nginx', 'nginx')}\n"
          f"http {{ access_log off; {temp} keepalive_requests 100000000; keepalive_timeout 300s; map_hash_max_size 4194304; map_hash_bucket_size 128;\n"
          f"map $host $filed {{ hostnames; default 0; include {work}/map.nginx; }}\n"
          f"upstream origin {{ server 127.0.0.1:{PORTS['origin']}; keepalive 256; keepalive_requests 100000000; }}\n"
          f"server {{ listen 127.0.0.1:{clear} backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;\n"
          f"ssl_certificate {work}/bench.crt; ssl_certificate_key {work}/bench.key; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n"
          f"error_page 451 /blocked.html; location = /blocked.html {{ internal; root {work}/www; }}\n"
          "location / { if ($filed = 0) { return 451; } proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;\n"
          "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; } } }\n")
    clear, tls = PORTS["haproxy"]
    write(f"{work}/haproxy.cfg", "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n"
          f"frontend all\n  bind 127.0.0.1:{clear} backlog 4096\n  bind 127.0.0.1:{tls} backlog 4096 ssl crt {work}/bench.pem alpn h2,http/1.1\n"
          "  http-request set-var(txn.host) req.hdr(host),host_only,lower\n"
          f"  acl filed var(txn.host),map_str({work}/map.haproxy) -m found\n"
          f"  acl parent_filed var(txn.host),regsub('^[^.]*\\.',''),map_str({work}/map.haproxy) -m found\n"
          "  http-request return status 451 content-type text/html hdr Cache-Control no-store file "
          f"{work}/www/blocked.html unless filed or parent_filed\n"
          "  option forwardfor\n  http-request set-header X-Forwarded-Proto https if { ssl_fc }\n  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }\n"
          f"  default_backend origin\nbackend origin\n  http-reuse always\n  server origin 127.0.0.1:{PORTS['origin']}\n")
    clear, tls = PORTS["gate"]
    write(f"{work}/gate.toml", f"""provider = "example-cloud"
workers = 1
[[listener]]
address = "127.0.0.1:{clear}"
protocol = "http"
[[listener]]
address = "127.0.0.1:{tls}"
protocol = "https"
[tls]
directory = "{work}/no-certificates"
certificates = [{{ cert = "{work}/bench.crt", key = "{work}/bench.key" }}]
[default_site]
upstreams = ["http://127.0.0.1:{PORTS['origin']}"]
[registry.embedded]
address = "127.0.0.1:{REGISTRY}"
database = "sqlite:{work}/gate.db"
[enforcement]
exceptions = [{{ host = "localhost", reason = "TLS rows: what every machine resolves", owner = "bench" }}]
[cache]
directory = "{work}/gate"
[log]
access = "off"
[admin]
address = "127.0.0.1:{ADMIN}"
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
    request = urllib.request.Request(f"http://127.0.0.1:{port}/1k", headers={"Host": "bench.test"})
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


def cpu_seconds(pid):
    ticks = 0
    for one in family(pid):
        with open(f"/proc/{one}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def memory_mib(pid):
    total = 0
    for one in family(pid):
        with open(f"/proc/{one}/smaps_rollup", encoding="ascii") as rollup:
            total += int(re.search(r"^Pss:\s+(\d+)", rollup.read(), re.M).group(1))
    return total / 1024


def to_ms(text):
    value, unit = re.match(r"([\d.]+)(us|ms|s|m)$", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def load(work, row, proxy, seconds):
    clear, tls = PORTS[proxy]
    if row == "h2":
        command = ["h2load", "-D", str(seconds), "-c", "16", "-m", "4", "-t", "1", f"https://localhost:{tls}/1k"]
    else:
        url = f"https://localhost:{tls}/1k" if row == "tls" else f"http://127.0.0.1:{clear}/1k"
        command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency"]
        command += ["-s", f"{work}/{'mixed' if row == 'blocked' else 'asked'}.lua"] if row != "tls" else []
        command.append(url)
    run = subprocess.run(["taskset", "-c", "1", *command], capture_output=True, text=True, check=True, timeout=seconds + 60)
    text = run.stdout
    if row == "h2":
        done = int(re.search(r"(\d+) succeeded", text).group(1))
        failed = int(re.search(r"(\d+) failed", text).group(1))
        rate = float(re.search(r"([\d.]+) req/s", text).group(1))
        p50 = p99 = None
    else:
        done = int(re.search(r"(\d+) requests in", text).group(1))
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
        p50, p99 = (to_ms(re.search(rf"^\s+{share}%\s+(\S+)\s*$", text, re.M).group(1)) for share in (50, 99))
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        failed = int(bad.group(1)) if bad else 0
    return {"done": done, "failed": failed, "rate": rate, "p50_ms": p50, "p99_ms": p99, "raw": text}


def measure(work, row, proxy, process, seconds):
    load(work, row, proxy, 1)
    before = cpu_seconds(process.pid)
    result = load(work, row, proxy, seconds)
    used = cpu_seconds(process.pid) - before
    share = result["failed"] / max(result["done"], 1)
    expected = 0.1 if row == "blocked" else 0.0
    if abs(share - expected) > 0.02:
        sys.exit(f"{proxy}, {row}: {share:.1%} of the answers were refusals, expected {expected:.0%}; not the same work\n{result['raw']}")
    return {"cpu_us": used / result["done"] * 1e6, "rate": result["rate"], "p50_ms": result["p50_ms"],
            "p99_ms": result["p99_ms"], "memory_mib": memory_mib(process.pid)}


def summary(rounds):
    def median(key):
        values = [one[key] for one in rounds if one[key] is not None]
        return statistics.median(values) if values else None
    cpu = [one["cpu_us"] for one in rounds]
    return {key: median(key) for key in rounds[0]} | {"spread": (max(cpu) - min(cpu)) / statistics.median(cpu)}


def table(results):
    lines = ["| work | proxy | CPU µs/request (spread) | ratio to best peer | requests/s | p50 ms | p99 ms | memory MiB |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    show = lambda value, form: "–" if value is None else format(value, form)
    for row, by_proxy in results.items():
        best = min(one["cpu_us"] for proxy, one in by_proxy.items() if proxy != "gate")
        for proxy, one in by_proxy.items():
            lines.append(f"| {ROWS[row]} | {proxy} | {one['cpu_us']:.2f} ({one['spread']:.0%}) | {one['cpu_us'] / best:.2f} | {one['rate']:.0f} | {show(one['p50_ms'], '.2f')} | {show(one['p99_ms'], '.2f')} | {one['memory_mib']:.0f} |")
    return "\n".join(lines)


def main():
    arguments = parse_arguments()
    require_tools()
    os.environ["PATH"] += ":/usr/sbin"
    gate = arguments.gate
    if not gate:
        subprocess.run(["cargo", "build", "--release"], check=True)
        gate = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release", "beian-gate")
    rows = [row for row in arguments.rows.split(",") if row in ROWS]
    processes = {}
    with tempfile.TemporaryDirectory() as work, open(os.path.join(work, "processes.log"), "w", encoding="utf-8") as log:
        os.chmod(work, 0o755)
        for directory in ("www", "tmp"):
            os.mkdir(f"{work}/{directory}")
        prepare(work, names(arguments.filings))
        configs(work)
        subprocess.run([gate, "registry", "import", f"{work}/filings.csv", "-c", f"{work}/gate.toml"], check=True, stdout=log, stderr=log)
        try:
            processes["origin"] = start(["nginx", "-c", f"{work}/origin.conf", "-p", work], 1, log)
            processes["nginx"] = start(["nginx", "-c", f"{work}/nginx.conf", "-p", work], 0, log)
            processes["haproxy"] = start(["haproxy", "-f", f"{work}/haproxy.cfg"], 0, log)
            processes["gate"] = start([gate, "run", "-c", f"{work}/gate.toml"], 0, log)
            for proxy in ("nginx", "haproxy", "gate"):
                wait_for(lambda proxy=proxy: answers(PORTS[proxy][0]), proxy, processes[proxy], log)
            rounds = {row: {proxy: [] for proxy in ("nginx", "haproxy", "gate")} for row in rows}
            for number in range(arguments.rounds):
                for row in rows:
                    for proxy in rounds[row]:
                        rounds[row][proxy].append(measure(work, row, proxy, processes[proxy], arguments.seconds))
                        print(f"round {number + 1} {row} {proxy}: {rounds[row][proxy][-1]['cpu_us']:.2f} µs", file=sys.stderr)
        finally:
            for process in processes.values():
                process.send_signal(signal.SIGTERM)
            for process in processes.values():
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
    results = {row: {proxy: summary(measured) for proxy, measured in by_proxy.items()} for row, by_proxy in rounds.items()}
    os.makedirs(arguments.out, exist_ok=True)
    write(os.path.join(arguments.out, "side_by_side.json"), json.dumps({"filings": arguments.filings, "results": results}, indent=1))
    print(f"{arguments.filings:,} filings, {arguments.rounds} rounds of {arguments.seconds} s\n\n{table(results)}")


if __name__ == "__main__":
    main()
