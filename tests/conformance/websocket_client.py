#!/usr/bin/env python3
"""WebSockets by a client and a server that others use (websockets), with the gate between: messages of every size, in
fragments, compressed, pings, subprotocols, closing from either side, many at once; and a blocked name's answer.

    pip install websockets; python3 tests/conformance/websocket_client.py PATH_OF_A_BEIAN_GATE_BINARY

HTTP/1.1; a browser speaks both HTTPs in the integration suite (tests/it/proxy/websocket.rs). Never part of CI. Ends
only what it started. Exit code 0: all well.
"""

import asyncio
import os
import sys

import websockets
from served import BLOCKED, HOST, gate
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


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
    async with serve(server, "127.0.0.1", 0, max_size=None, subprotocols=["chat"]) as upstream:
        port = upstream.sockets[0].getsockname()[1]
        with gate(sys.argv[1], f"http://127.0.0.1:{port}") as http:
            await run(http)


if __name__ == "__main__":
    asyncio.run(main())
