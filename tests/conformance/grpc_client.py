#!/usr/bin/env python3
"""gRPC by a client and a server that others use (grpcio), with the gate between: every kind of call, metadata,
trailing metadata, statuses, deadlines, cancelling, large messages; and a blocked name's status.

    pip install grpcio; python3 tests/conformance/grpc_client.py PATH_OF_A_BEIAN_GATE_BINARY

Needs no generated code: messages are octets. Never part of CI. Ends only what it started. Exit code 0: all well.
"""

import concurrent.futures
import os
import sys
import threading
import time

import grpc
from served import BLOCKED, HOST, gate

cancelled = threading.Event()


class Calls(grpc.GenericRpcHandler):
    def service(self, details):
        kind = details.method.rsplit("/", 1)[1]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Slow": grpc.unary_unary_rpc_method_handler(self.slow),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }.get(kind)

    def unary(self, request, context):
        seen = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-initial", seen.get("x-mine", "")),))
        context.set_trailing_metadata((("x-trailing", "t"), ("x-more", "m")))
        return request

    def down(self, request, context):
        for number in range(100):
            yield request + b"%d" % number

    def up(self, requests, context):
        return b"%d" % sum(len(request) for request in requests)

    def both(self, requests, context):
        for request in requests:
            yield request

    def slow(self, request, context):
        context.add_callback(cancelled.set)
        time.sleep(3)
        return request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not 现在, 100 %")


def run(http):
    address = http.removeprefix("http://")
    channel = grpc.insecure_channel(address, options=[("grpc.default_authority", HOST)])
    unary, call = channel.unary_unary("/test.Calls/Unary").with_call(b"hello", metadata=(("x-mine", "v"),), timeout=5)
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert unary == b"hello" and initial["x-initial"] == "v" and trailing["x-trailing"] == "t", (initial, trailing)
    print("unary with metadata both ways: ok")
    large = os.urandom(3 << 20)
    assert channel.unary_unary("/test.Calls/Unary")(large, timeout=20) == large
    print("3 MiB each way: ok")
    assert list(channel.unary_stream("/test.Calls/Down")(b"n", timeout=5)) == [b"n%d" % n for n in range(100)]
    assert channel.stream_unary("/test.Calls/Up")(iter([b"abc"] * 50), timeout=5) == b"150"
    print("streams down and up: ok")
    step = threading.Semaphore(1)

    def requests():
        for number in range(20):
            step.acquire()
            yield b"%d" % number

    for number, answer in enumerate(channel.stream_stream("/test.Calls/Both")(requests(), timeout=10)):
        assert answer == b"%d" % number
        step.release()
    print("both ways, each message before the next: ok")
    for method, code, words in [
        ("Fail", grpc.StatusCode.FAILED_PRECONDITION, "not 现在, 100 %"),
        ("None", grpc.StatusCode.UNIMPLEMENTED, None),
    ]:
        try:
            channel.unary_unary(f"/test.Calls/{method}")(b"", timeout=5)
            raise SystemExit(f"{method} went through")
        except grpc.RpcError as error:
            assert error.code() == code and (words is None or error.details() == words), error
    print("statuses and their words: ok")
    try:
        channel.unary_unary("/test.Calls/Slow")(b"", timeout=0.5)
        raise SystemExit("the deadline passed unnoticed")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert cancelled.wait(5), "the server was not told"
    print("deadline, told to the server: ok")
    blocked = grpc.insecure_channel(address, options=[("grpc.default_authority", BLOCKED)])
    try:
        blocked.unary_unary("/test.Calls/Unary")(b"", timeout=5)
        raise SystemExit("a blocked name went through")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
        print(f"blocked: {error.code().name}: {error.details()[:60]}…: ok")


def main():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Calls(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with gate(sys.argv[1], f"h2c://127.0.0.1:{port}") as http:
            run(http)
    finally:
        server.stop(None)


if __name__ == "__main__":
    main()
