"""Rules of telling and deliveries over the native API: what is taken, what is refused, who sees them."""

from typing import Any

import pytest

from apis.native.conftest import Serve
from apis.native.serving import Answer, Server

WORKFLOW = "jobs: {a: {run: 'true'}}"
HOOK = {"webhook": {"url": "https://hooks.example.org/x"}, "on": "always"}
ODD: list[Any] = [
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "x" * 5000,
    "\x00",
    "\ud800",
    [],
    {},
    [[]],
    {"url": 1},
    "http://[",
    "\r\n",
]


async def post(server: Server, body: Any, by: str = "") -> Answer:
    return await server.call("POST", "/notifications", body, by=by)


@pytest.fixture
async def project(server: Server) -> str:
    """A project of the operator."""
    assert (await server.submit(WORKFLOW, project="hello")).status == 201
    return "hello"


@pytest.mark.covers("telling.rules", "telling.access")
async def test_rules_are_made_listed_and_removed_by_those_who_configure(server: Server, project: str) -> None:
    made = await post(server, {"project": project, **HOOK})
    listed = await server.call("GET", f"/notifications?project={project}")
    stranger = await server.token("eve", "*")

    assert (made.status, made.body["on"], made.body["webhook"]["url"]) == (201, "always", HOOK["webhook"]["url"])  # type: ignore[index]
    assert listed.body["notifications"] == [made.body]
    for method, path in (
        ("GET", f"/notifications?project={project}"),
        ("DELETE", f"/notifications/{made.body['uid']}"),
        ("GET", f"/deliveries?project={project}"),
    ):
        assert (await server.call(method, path, by=stranger)).status == 404
    assert (await server.call("GET", "/deliveries", by=stranger)).status == 403
    assert (await post(server, {"project": project, **HOOK}, by=stranger)).status == 404
    assert (await server.call("DELETE", f"/notifications/{made.body['id']}")).status == 204
    assert (await server.call("GET", f"/notifications?project={project}")).body["notifications"] == []


@pytest.mark.covers("telling.rules")
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "targets"),
        ({**HOOK, "email": ["a@example.org"]}, "targets"),
        ({"webhook": {"url": "http://10.0.0.1/"}}, "local_source"),
        ({"webhook": {"url": "https://x.example.org/", "secret": "mine"}}, "unknown_secret"),
        ({"email": ["a@example.org"]}, "not_set_up"),
        ({"status": {"forge": "gitea", "repository": "a/b", "token": "server:x"}}, "missing"),
    ],
)
async def test_what_is_wrong_with_a_rule_is_said(server: Server, project: str, body: dict[str, Any], code: str) -> None:
    answer = await post(server, {"project": project, **body})

    assert answer.status == 400
    assert code in [fault["code"] for fault in answer.body["faults"]]


async def test_odd_values_in_any_field_are_refused_and_change_nothing(server: Server, project: str) -> None:
    whole = {
        "webhook": {"url": "https://x.example.org/", "secret": "server:x", "started": False},
        "email": ["a@example.org"],
        "status": {"forge": "github", "repository": "a/b", "token": "server:x", "api": "https://x.example.org"},
    }
    bodies: list[dict[str, Any]] = []
    for odd in ODD:
        bodies += [{"project": project, **HOOK, field: odd} for field in ("pipeline", "build", "on") if odd]
        for kind, value in whole.items():
            bodies.append({"project": project, kind: odd})
            if isinstance(value, dict):
                bodies += [
                    {"project": project, kind: {**value, field: odd}} for field in value if odd not in (False, "")
                ]
    answers = [(body, await post(server, body)) for body in bodies]

    assert [(body, answer.status) for body, answer in answers if answer.status not in (400, 404)] == []
    assert (await server.call("GET", f"/notifications?project={project}")).body["notifications"] == []


@pytest.mark.parametrize("query", ["state=gone", "limit=0", "limit=1001", "below=0", "below=x"])
async def test_a_query_that_makes_no_sense_is_400(server: Server, query: str) -> None:
    assert (await server.call("GET", f"/deliveries?{query}")).status == 400


async def test_what_is_not_there_is_404(server: Server, project: str) -> None:
    for method, path in (
        ("GET", "/deliveries/9"),
        ("GET", "/deliveries/none"),
        ("POST", "/deliveries/99999999999999999999/resend"),
        ("DELETE", "/notifications/5"),
        ("GET", "/notifications?project=none"),
        ("GET", "/notifications"),
        ("GET", "/deliveries?project=none"),
    ):
        assert (await server.call(method, path)).status == 404


@pytest.mark.covers("telling.access")
async def test_a_servers_credential_is_refused_to_those_who_do_not_administer_it(serve: Serve, tmp_path: Any) -> None:
    (tmp_path / "token").write_text("t0ken")
    server = await serve(BUILDYARD_TELLING_CREDENTIALS=f"gh={tmp_path / 'token'}")
    bob = await server.token("bob", "*")
    assert (await server.submit(WORKFLOW, project="his", by=bob)).status == 201
    rule = {"project": "his", "status": {"forge": "github", "repository": "a/b", "token": "server:gh"}}

    refused, made = await post(server, rule, by=bob), await post(server, rule)

    assert (refused.status, made.status) == (403, 201)
    assert "t0ken" not in made.data.decode()


@pytest.mark.covers("telling.never_lost")
async def test_a_cancelled_build_shows_among_the_deliveries_until_it_is_sent(server: Server, project: str) -> None:
    await post(server, {"project": project, "webhook": {"url": "https://no-such-host.invalid/"}, "on": "always"})
    builds = [(await server.submit(WORKFLOW, project=project)).body["id"] for _ in range(3)]
    for build in builds:
        assert (await server.call("POST", f"/builds/{build}/cancel", {"reason": ""})).status == 200

    first = (await server.call("GET", f"/deliveries?project={project}&limit=2")).body["deliveries"]
    rest = (await server.call("GET", f"/deliveries?project={project}&below={first[-1]['id']}")).body["deliveries"]
    shown = (await server.call("GET", f"/deliveries/{first[0]['id']}")).body

    assert [one["build"] for one in first + rest] == builds[::-1]
    assert {one["state"] for one in first + rest} == {"waiting"}
    assert (shown["uid"], shown["target"]) == (first[0]["uid"], "https://no-such-host.invalid/")
    again = await server.call("POST", f"/deliveries/{shown['uid']}/resend", {})
    assert (again.status, again.body["state"]) == (200, "waiting")


@pytest.mark.covers("telling.files")
async def test_a_workflow_file_holds_rules_of_its_pipeline(server: Server) -> None:
    hook = "notify: [{webhook: 'https://hooks.example.org/x', on: always}]\n"

    async def rules() -> list[Any]:
        found = (await server.call("GET", "/notifications?project=hello")).body["notifications"]
        return [(one["pipeline"], one["defined_by"], one["on"]) for one in found]

    assert (await server.submit(hook + WORKFLOW, project="hello")).status == 201
    assert await rules() == [("main", "workflow", "always")]
    assert (await server.submit(hook + WORKFLOW, project="hello")).status == 201
    assert (await server.submit(WORKFLOW, project="hello", pipeline="other")).status == 201
    assert await rules() == [("main", "workflow", "always")]
    assert (await server.submit(WORKFLOW, project="hello")).status == 201
    assert await rules() == []


@pytest.mark.covers("telling.files", "telling.access")
async def test_a_file_whose_rules_cannot_be_followed_makes_nothing(server: Server) -> None:
    bob = await server.token("bob", "*")
    bad = await server.submit("notify: {email: a@example.org}\n" + WORKFLOW, project="new")
    private = await server.submit("notify: {webhook: 'http://10.0.0.1/'}\n" + WORKFLOW, project="new")
    secret = "notify: {webhook: 'https://x.example.org/', secret: 'server:x'}\n"
    foreign = await server.submit(secret + WORKFLOW, project="new", by=bob)

    assert (bad.status, private.status, foreign.status) == (400, 400, 403)
    assert [bad.body["faults"][0]["path"], private.body["faults"][0]["path"]] == ["notify[0].action", "notify[0].url"]
    assert (await server.call("GET", "/notifications?project=new")).status == 404
