"""Whatever is sent to the REST part, the answer is one of its own: never a 5xx, and never one that is no document."""

import json
import random
from typing import Any

import pytest

from apis.sourcehut.resting import MANIFEST, Rest

ROUNDS = 150
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**200, 1.5, 1e308, "", "a", "*", "~", "\x00", "\ud83d", "é" * 300,
    "x" * 20_000,
    [], [None], [[]], ["*"], ["a", "a"], [1, -1, 2**40], {}, {"a": {}}, [{"action": "email"}],
    [{"action": 7, "to": []}],
    "image: [", "image: a\ntasks: [{a: b}]", "a: &a [*a]", "- " * 9_000, "{" * 500, MANIFEST,
)  # fmt: skip
FIELDS = ("manifest", "note", "tags", "access:read", "access:write", "triggers", "execute", "secrets", "jobs", "other")
IDS = (
    "1",
    "2",
    "0",
    "-1",
    "007",
    "2147483647",
    "2147483648",
    "9" * 40,
    "x",
    "%00",
    "%ff",
    "..",
    "1%2f2",
    "%EF%BC%91",
    "",
)
SUFFIXES = (
    "",
    "/",
    "/manifest",
    "/artifacts",
    "/start",
    "/cancel",
    "/none",
    "?start=1",
    "?start=x",
    "?start=-9&start=",
)
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
TYPES = (
    "application/json",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=b",
    "text/plain",
    "nonsense",
)
TOKENS = ("", "Bearer", "token x", "Bearer  two", "Basic YTpi", "Internal x", "x" * 5000)


def body_of(chance: random.Random) -> bytes:
    """Fields with odd values, or bytes that are no document at all."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    fields = {name: chance.choice(ODD) for name in chance.sample(FIELDS, chance.randrange(len(FIELDS)))}
    if kind == 1:
        fields = {"manifest": "image: a\ntasks: [{a: b}]", **fields}
    data = json.dumps(fields).encode("utf-8", "surrogatepass")
    return data if kind < 3 else data[: chance.randrange(len(data) + 1)]


@pytest.mark.covers("sourcehut.fuzzing")
@pytest.mark.parametrize("seed", [1, 2])
async def test_odd_requests_get_answers_of_this_api(rest: Rest, seed: int) -> None:
    chance = random.Random(seed)
    good = f"token {await rest.token(rest.world.owner)}"
    for number in range(ROUNDS):
        noun = chance.choice(("/api/jobs", "/api/jobs", "/api/job-group"))
        path = noun if chance.random() < 0.4 else f"{noun}/{chance.choice(IDS)}{chance.choice(SUFFIXES)}"
        authorization = good if chance.random() < 0.8 else chance.choice(TOKENS)
        headers = {"Content-Type": TYPES[0] if chance.random() < 0.6 else chance.choice(TYPES)}
        method = chance.choice(METHODS) if chance.random() < 0.3 else chance.choice(METHODS[:2])
        data = body_of(chance)

        reply = await rest.call(method, path, authorization=authorization, data=data, headers=headers)

        told = (number, method, path, authorization, headers, data[:300], reply)
        assert reply.status < 500, told
        if reply.status >= 400 and method != "HEAD" and not (noun == "/api/job-group" and reply.json == {}):
            assert reply.json["errors"], told
