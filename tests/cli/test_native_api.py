"""Our own HTTP API beneath the command line: what it refuses, and in which words."""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from installation import Installation

BASE = "/-/api/v1"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        """The JSON of the body."""
        return json.loads(self.data)


@dataclass(frozen=True)
class Caller:
    """Sends raw requests as the operator of this machine, or as nobody."""

    buildyard: Installation

    def __call__(
        self, method: str, path: str, body: bytes | None = None, *, known: bool = True, **headers: str
    ) -> Answer:
        """One request; names of headers are written with _ for -."""
        if known:
            headers["Authorization"] = f"Bearer {(self.buildyard.data / 'operator.token').read_text().strip()}"
        parts = urlsplit(self.buildyard.url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, BASE + path, body, named)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()


@pytest.fixture
def call(buildyard: Installation) -> Caller:
    """Sends requests to the shared server."""
    return Caller(buildyard)


JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/builds"),
        ("PUT", "/uploads"),
        ("POST", "/users"),
        ("GET", "/users"),
        ("GET", "/tokens"),
        ("POST", "/tokens"),
        ("DELETE", "/tokens/1"),
        ("PUT", "/users/admin/password"),
    ],
)
def test_nobody_may_change_or_see_anything_without_signing_in(call: Caller, method: str, path: str) -> None:
    bodies = {
        "/builds": b'{"workflow": "jobs: {a: {run: x}}"}',
        "/users": b'{"username": "x", "password": "long enough"}',
        "/tokens": b'{"user": "admin", "scopes": ["*"]}',
        "/users/admin/password": b'{"password": "long enough"}',
    }

    answer = call(method, path, bodies.get(path) if method != "GET" else None, known=False, **JSON)

    assert answer.status in (401, 404)
    assert answer.body["error"]


def test_a_wrong_token_is_401_even_where_anonymous_could_read(call: Caller) -> None:
    answer = call("GET", "/builds", known=False, Authorization="Bearer nonsense")

    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_only_json_is_taken_so_no_form_of_another_site_can_act(call: Caller, media: str) -> None:
    answer = call("POST", "/builds", b"{}", Content_Type=media)

    assert answer.status == 400
    assert "application/json" in answer.body["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"workflow": 1}', b'{"workflow": "\xff"}', b'{"matrix": {}}'])
def test_a_malformed_body_is_400(call: Caller, body: bytes) -> None:
    assert call("POST", "/builds", body, **JSON).status == 400


def test_a_body_over_the_limit_is_413(call: Caller) -> None:
    answer = call("POST", "/builds", b'"' + b"x" * (8 * 1024 * 1024 + 1) + b'"', **JSON)

    assert answer.status == 413
    assert "8 MiB" in answer.body["error"]


def test_the_faults_of_a_workflow_come_with_path_message_and_code(call: Caller) -> None:
    answer = call("POST", "/builds", json.dumps({"workflow": "jobs: {a: {}}"}).encode(), **JSON)

    assert answer.status == 400
    assert answer.body["faults"] == [
        {
            "path": "jobs.a.steps",
            "message": "is missing: a job has steps, or run (line 1, column 11)",
            "code": "invalid",
        }
    ]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "offset=-1", "limit=1.5", "limit=nan"])
def test_paging_out_of_bounds_is_400(call: Caller, query: str) -> None:
    assert call("GET", f"/builds?{query}").status == 400


@pytest.mark.parametrize(
    "path", ["/builds/0", "/builds/x%2F..%2Fy", "/logs/999999", "/artifacts/nope", "/nothing", "/logs/x"]
)
def test_what_is_not_there_is_404_in_json(call: Caller, path: str) -> None:
    answer = call("GET", path)

    assert answer.status == 404
    assert answer.body["error"]


def test_a_method_that_a_path_does_not_know_is_405(call: Caller) -> None:
    assert call("DELETE", "/builds").status == 405


def test_an_upload_is_named_by_its_contents(call: Caller) -> None:
    first, again = call("PUT", "/uploads", b"bytes"), call("PUT", "/uploads", b"bytes")

    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert first.body["size"] == 5


def test_artifacts_cannot_pass_for_pages_of_ours(buildyard: Installation, call: Caller) -> None:
    workflow = "jobs: {a: {run: 'echo \"<script>\" > page.html', outputs: [page.html]}}"
    build = call("POST", "/builds", json.dumps({"workflow": workflow}).encode(), **JSON).body["id"]
    assert buildyard("logs", "-f", str(build)).code == 0
    [artifact] = call("GET", f"/builds/{build}/artifacts").body["artifacts"]

    answer = call("GET", f"/artifacts/{artifact['uid']}")

    assert answer.data == b"<script>\n"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["content-disposition"].startswith("attachment")
