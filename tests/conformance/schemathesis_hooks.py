"""What the fuzzer can't know: bodies of our own media types, and names that are there to be found.

Loaded by `tests/conformance/schemathesis`. Without the names nearly every call ends at the first rule."""

import json
import random

import schemathesis

KNOWN = {
    "domain": ["example.com", "www.example.com", "new.cn", "unit.town.gov.cn", "pending.cn", "com.cn"],
    "id": ["order-00000001", "order-00000002", "subject-00000001", "server-1", "account-1"],
    "number": ["京ICP备12345678号-1", "京ICP备12345678号", "京ICP备1号-1"],
    "subject": ["京ICP备12345678号", "示例公司", "subject-00000001"],
    "provider": ["example-cloud", "other-cloud"],
    "account": ["account-1"],
    "cursor": ["", "5", "example.com", "order-00000001"],
}
STEPS = ["submit", "pass", "verify", "approve", "reject", "withdraw", "correct"]


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    if isinstance(value, bytes):
        return value
    lines = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()


@schemathesis.serializer("application/vnd.beian-gate.feed")
def frame(context, value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.deserializer("application/x-ndjson")
def lines(context, response):
    first = response.content.split(b"\n", 1)[0]
    return json.loads(first) if first.strip() else {"line": 1, "domain": "", "status": "unchanged"}


def known(words):
    """Half of the time, a word that is there instead of one that was made up."""
    if not isinstance(words, dict):
        return words
    choose = random.Random(json.dumps(words, sort_keys=True, default=str))
    for name, values in KNOWN.items():
        if name in words and choose.random() < 0.5:
            words[name] = choose.choice(values)
    if words.get("step") is not None and words["step"] not in STEPS and choose.random() < 0.5:
        words["step"] = choose.choice(STEPS)
    return words


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    return known(path_parameters)


@schemathesis.hook
def map_query(context, query):
    return known(query)


@schemathesis.hook
def map_body(context, body):
    return known(body)
