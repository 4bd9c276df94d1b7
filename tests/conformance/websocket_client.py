#!/usr/bin/env python3
"""WebSockets by a client and a server that others use (websockets), with the gate between: messages of every size, in
fragments, compressed, pings, subprotocols, closing from either side, many at once; and a blocked name's answer.

    pip install websockets; python3 tests/conformance/websocket_client.py PATH_OF_A_BEIAN_GATE_BINARY

HTTP/1.1; a browser speaks both HTTPs in the integration suite (tests/it/proxy/websocket.rs). Never part of CI. Ends
only what it started. Exit code 0: all well.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

HOST, BLOCKED = "filed.cn", "unfiled.cn"
CONFIG = """provider = "example-cloud"
[[listener]]
address = "127.0.0.1:0"
[[site]]
hosts = ["{hosts}"]
upstreams = ["http://127.0.0.1:{upstream}"]
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


def gate(binary, directory, upstream):
    with open(os.path.join(directory, "gate.toml"), "w") as file:
        file.write(CONFIG.format(hosts=f'{HOST}", "{BLOCKED}', upstream=upstream))
    process = subprocess.Popen([binary, "run", "-c", "gate.toml"], cwd=directory, stdout=subprocess.PIPE, text=True)
    found = {}
    for line in process.stdout:
        for name, url in re.findall(r"^\s+(http|admin|registry)\s+(http://\S+)", line):
            found[name] = url.rstrip("/")
        if len(found) == 3:
            return process, found
    raise SystemExit("the gate did not start")


def ask(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=5).read()


async def server(connection):
    try:
        async for message in connection:
            if message == "end it":
                await connection.close(4000, "as you wish")
                return
            await connection.send(message)
    except websockets.ConnectionClosed:
        pass


async def run(http):
    address, port = http.removeprefix("http://").split(":")

    def to(host, **more):
        more = {"subprotocols": ["chat"], "max_size": None, **more}
        return connect(f"ws://{host}/chat", host=address, port=int(port), **more)

    for compression in [None, "deflate"]:
        async with to(HOST, compression=compression) as socket:
            for octets in [0, 1, 125, 126, 65535, 65536, 3 << 20]:
                message = os.urandom(octets)
                await socket.send(message)
                assert await socket.recv() == message, octets
            await socket.send("网" * 100_000)
            assert await socket.recv() == "网" * 100_000
            await socket.send([b"a" * 1000] * 500)
            assert await socket.recv() == b"a" * 500_000
            await asyncio.wait_for(await socket.ping(), 5)
    print("messages of all sizes, in fragments, plain and compressed; pings: ok")
    async with to(HOST, subprotocols=["other", "chat"]) as socket:
        assert socket.subprotocol == "chat", socket.subprotocol
        await socket.send("end it")
        try:
            await socket.recv()
            raise SystemExit("the server's close was lost")
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4000, "as you wish"), closed
    print("subprotocol, and a close from the server: ok")

    async def one(number):
        async with to(HOST) as socket:
            for turn in range(20):
                await socket.send(f"{number}.{turn}")
                assert await socket.recv() == f"{number}.{turn}"

    await asyncio.gather(*(one(number) for number in range(100)))
    print("a hundred at once: ok")
    try:
        async with to(BLOCKED):
            raise SystemExit("a blocked name went through")
    except websockets.InvalidStatus as refused:
        assert refused.response.status_code == 451, refused
        print("blocked: 451: ok")


async def main():
    binary = os.path.realpath(sys.argv[1])
    async with serve(server, "127.0.0.1", 0, max_size=None, subprotocols=["chat"]) as upstream:
        port = upstream.sockets[0].getsockname()[1]
        with tempfile.TemporaryDirectory() as directory:
            process, urls = gate(binary, directory, port)
            try:
                document = {"number": "京ICP备20000001号-1", "access": {"example-cloud": "active"}}
                ask("PUT", f"{urls['registry']}/v1/filings/{HOST}", document)
                until = time.monotonic() + 10
                while json.loads(ask("GET", f"{urls['admin']}/v1/verdict?host={HOST}")).get("verdict") != "allow":
                    assert time.monotonic() < until, "the filing is not in force"
                    time.sleep(0.02)
                await run(urls["http"])
            finally:
                process.terminate()
                process.wait(30)


if __name__ == "__main__":
    asyncio.run(main())
