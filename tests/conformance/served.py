"""A gate for the clients beside this file: one site, whose filing is in force, and an unfiled name beside it."""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.request

HOST, BLOCKED = "filed.cn", "unfiled.cn"
CONFIG = """provider = "example-cloud"
[[listener]]
address = "127.0.0.1:0"
[[site]]
hosts = ["{host}", "{blocked}"]
upstreams = ["{upstream}"]
[registry.embedded]
address = "127.0.0.1:0"
database = "sqlite:registry.db"
[cache]
directory = "state"
[log]
access = "off"
[admin]
address = "127.0.0.1:0"
"""


def ask(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=5).read()


def addresses(process):
    found = {}
    for line in process.stdout:
        for name, url in re.findall(r"^\s+(http|admin|registry)\s+(http://\S+)", line):
            found[name] = url.rstrip("/")
        if len(found) == 3:
            return found
    raise SystemExit("the gate did not start")


@contextlib.contextmanager
def gate(binary, upstream):
    """Where it serves HTTP, for as long as the context lasts."""
    binary = os.path.realpath(binary)
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "gate.toml"), "w") as file:
            file.write(CONFIG.format(host=HOST, blocked=BLOCKED, upstream=upstream))
        process = subprocess.Popen([binary, "run", "-c", "gate.toml"], cwd=directory, stdout=subprocess.PIPE, text=True)
        try:
            urls = addresses(process)
            document = {"number": "京ICP备20000001号-1", "access": {"example-cloud": "active"}}
            ask("PUT", f"{urls['registry']}/v1/filings/{HOST}", document)
            until = time.monotonic() + 10
            while json.loads(ask("GET", f"{urls['admin']}/v1/verdict?host={HOST}")).get("verdict") != "allow":
                assert time.monotonic() < until, "the filing is not in force"
                time.sleep(0.02)
            yield urls["http"]
        finally:
            process.terminate()
            process.wait(30)
