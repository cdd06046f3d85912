"""Which ends are told, what makes a right rule, and how long to wait for the next try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.errors import Fault
from buildyard.domain.notifications import (
    Condition,
    EmailTarget,
    Forge,
    Rule,
    StatusTarget,
    Target,
    WebhookTarget,
    host_of,
    is_final,
    is_wanted,
    retry_delay,
    rule_faults,
    stream_of,
)
from buildyard.domain.sources import Address, read_http_url
from buildyard.domain.states import Result

R, C = Result, Condition

GITHUB = StatusTarget(forge=Forge.GITHUB, repository="acme/tool", token="server:gh")


@pytest.mark.covers("telling.rules")
@pytest.mark.parametrize(
    ("result", "before", "wanted"),
    [
        (R.SUCCESS, None, {C.ALWAYS, C.SUCCESS}),
        (R.SUCCESS, R.WARNINGS, {C.ALWAYS, C.SUCCESS}),
        (R.SUCCESS, R.FAILURE, {C.ALWAYS, C.SUCCESS, C.CHANGED, C.FIXED}),
        (R.WARNINGS, R.TIMEOUT, {C.ALWAYS, C.SUCCESS, C.CHANGED, C.FIXED}),
        (R.FAILURE, None, {C.ALWAYS, C.UNSUCCESSFUL, C.FAILURE, C.CHANGED}),
        (R.ERROR, R.SUCCESS, {C.ALWAYS, C.UNSUCCESSFUL, C.FAILURE, C.CHANGED}),
        (R.FAILURE, R.ERROR, {C.ALWAYS, C.UNSUCCESSFUL, C.FAILURE}),
        (R.CANCELLED, R.SUCCESS, {C.ALWAYS, C.UNSUCCESSFUL}),
        (R.SKIPPED, R.FAILURE, {C.ALWAYS, C.UNSUCCESSFUL}),
    ],
)
def test_a_condition_names_the_ends_that_are_told(
    result: Result, before: Result | None, wanted: set[Condition]
) -> None:
    assert {condition for condition in Condition if is_wanted(condition, result, before)} == wanted


@pytest.mark.covers("telling.retries")
@given(tries=st.integers(1, 1000), chance=st.floats(0, 1), wished=st.none() | st.floats(0, 1e9))
def test_the_delay_grows_within_bounds_and_keeps_what_the_target_wishes(
    tries: int, chance: float, wished: float | None
) -> None:
    delay = retry_delay(tries, chance, wished)

    assert 2.5 <= delay <= 24 * 3600
    assert delay >= min(wished or 0, 24 * 3600)
    assert retry_delay(tries + 1, chance, wished) >= delay


@pytest.mark.covers("telling.retries")
def test_only_answers_that_another_try_would_get_again_are_final() -> None:
    assert [status for status in (301, 307, 400, 410, 422) if not is_final(status)] == []
    assert [status for status in (0, 401, 403, 404, 408, 409, 425, 429, 500, 502, 503) if is_final(status)] == []


@pytest.mark.covers("telling.rules", "telling.webhooks.targets")
@pytest.mark.parametrize(
    ("target", "path"),
    [
        (EmailTarget(to=()), "to"),
        (EmailTarget(to=("a@b.org", "a@b.org")), "to"),
        (EmailTarget(to=tuple(f"a{i}@b.org" for i in range(21))), "to"),
        (EmailTarget(to=("nobody",)), "to[0]"),
        (EmailTarget(to=("a@b.org\r\nBcc: c@d.org",)), "to[0]"),
        (EmailTarget(to=("a@b.org, c@d.org",)), "to[0]"),
        (EmailTarget(to=("jürgen@b.org",)), "to[0]"),
        (WebhookTarget(url="ftp://x.org/"), "url"),
        (WebhookTarget(url="https://user:password@x.org/"), "url"),
        (WebhookTarget(url="http://127.0.0.1/"), "url"),
        (WebhookTarget(url="http://[::ffff:10.0.0.1]/"), "url"),
        (WebhookTarget(url="http://0x7f.1/"), "url"),
        (WebhookTarget(url="https://x.org/a b"), "url"),
        (WebhookTarget(url="https://x.org/", secret="server:../x"), "secret"),
        (StatusTarget(forge=Forge.GITHUB, repository="acme", token="server:t"), "repository"),
        (StatusTarget(forge=Forge.GITHUB, repository="acme/../tool", token="server:t"), "repository"),
        (StatusTarget(forge=Forge.GITHUB, repository="acme/tool", token=""), "token"),
        (StatusTarget(forge=Forge.GITEA, repository="acme/tool", token="server:t"), "api"),
        (
            StatusTarget(forge=Forge.GITEA, repository="acme/tool", token="server:t", api="http://10.1.1.1/api/v1"),
            "api",
        ),
    ],
)
def test_a_fault_of_a_rule_is_named_with_its_place(target: Target, path: str) -> None:
    condition = Condition.ALWAYS

    assert [fault.path for fault in rule_faults(Rule(target=target, condition=condition), allow_local=False)] == [path]


@pytest.mark.covers("telling.rules")
def test_right_rules_have_no_faults() -> None:
    targets: list[Target] = [
        EmailTarget(to=("submitter", "team+ci@example.org")),
        WebhookTarget(url="https://example.org/hook?key=1", secret="server:hook", started=True),
        GITHUB,
        StatusTarget(forge=Forge.GITLAB, repository="a/b/c", token="server:t"),
        StatusTarget(forge=Forge.GITEA, repository="a/b", token="server:t", api="https://git.example.org/api/v1/"),
    ]
    rules = [Rule(target=target, condition=Condition.ALWAYS) for target in targets]

    assert [fault for rule in rules for fault in rule_faults(rule, allow_local=False)] == []
    assert [fault.path for fault in rule_faults(Rule(target=GITHUB), allow_local=False)] == ["on"]


@pytest.mark.parametrize(
    ("url", "place", "path"),
    [
        ("https://Example.org", "example.org:443", "/"),
        ("http://example.org:81?x=1", "example.org:81", "/?x=1"),
        ("https://example.org//a/./b", "example.org:443", "//a/./b"),
    ],
)
def test_an_address_is_taken_apart_without_a_change_of_its_path(url: str, place: str, path: str) -> None:
    found = read_http_url(url, "url", allow_local=False)

    assert isinstance(found, Address)
    assert (f"{found.host}:{found.port}", found.path) == (place, path)
    assert host_of(WebhookTarget(url=url)) == place


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_a_fault(text: str) -> None:
    assert isinstance(read_http_url(text, "url", allow_local=False), Address | Fault)
    assert isinstance(read_http_url(f"http://{text}", "url", allow_local=True), Address | Fault)


def test_statuses_of_one_commit_and_pipeline_share_a_stream_and_no_others_do() -> None:
    streams = [
        stream_of(GITHUB, "a" * 40, "main"),
        stream_of(GITHUB, "b" * 40, "main"),
        stream_of(GITHUB, "a" * 40, "other"),
    ]

    assert len(set(streams)) == 3
    assert (
        stream_of(StatusTarget(forge=Forge.GITHUB, repository="acme/tool", token="server:x"), "a" * 40, "main")
        in streams
    )
    assert stream_of(WebhookTarget(url="https://x.org/"), "a" * 40, "main") == ""
