"""Who sent a delivery."""

import pytest

from apis.hooks.deliveries import PUSHES, SECRET, SIGNING, hex_of, seconds, signed, standard_signature
from buildyard.apis.hooks.signatures import Request, verified
from buildyard.domain.errors import Forbidden, Unauthenticated
from buildyard.domain.hooks import Forge, secret_fault
from buildyard.domain.ids import SECOND, Moment

NOW = Moment(1_800_000_000 * SECOND)
BODY = b'{"a": 1}'


def request(headers: dict[str, str], body: bytes = BODY) -> Request:
    return Request({name.lower(): value for name, value in headers.items()}, body, NOW)


@pytest.mark.covers("hooks.signatures")
@pytest.mark.parametrize("forge", Forge)
def test_each_of_several_secrets_opens_and_no_other(forge: Forge) -> None:
    told = PUSHES[forge]()
    delivery = request(signed(forge, told.event, told.body), told.body)

    assert verified(forge, delivery, [SECRET])
    assert verified(forge, delivery, ["the next secret", SECRET])
    with pytest.raises(Forbidden):
        verified(forge, delivery, ["the next secret", "another one"])
    with pytest.raises(Forbidden):
        verified(forge, delivery, [])


@pytest.mark.covers("hooks.signatures")
@pytest.mark.parametrize("forge", Forge)
def test_what_is_not_signed_is_refused(forge: Forge) -> None:
    with pytest.raises(Unauthenticated, match="missing"):
        verified(forge, request({}), [SECRET])


@pytest.mark.covers("hooks.signatures")
@pytest.mark.parametrize("forge", sorted(set(Forge) - {Forge.GITLAB}))
@pytest.mark.parametrize("claim", ["sha256=", "sha1=abc", "\xff\xfe", "0" * 64, "sha256=" + "0" * 64])
def test_a_signature_of_anything_else_is_refused(forge: Forge, claim: str) -> None:
    name = next(name for name in signed(forge, "x", BODY) if "Signature" in name)
    with pytest.raises((Forbidden, Unauthenticated)):
        verified(forge, request({name: claim}), [SECRET])
    with pytest.raises(Forbidden):
        verified(forge, request({name: f"sha256={hex_of(BODY + b' ')}"}), [SECRET])


@pytest.mark.covers("hooks.replay")
@pytest.mark.parametrize("forge", sorted(set(Forge) - {Forge.GITLAB}))
def test_other_headers_do_not_make_a_captured_delivery_look_new(forge: Forge) -> None:
    headers = signed(forge, "push", BODY)
    captured = verified(forge, request({**headers, "X-GitHub-Delivery": "1", "X-Request-Id": "1"}), [SECRET])
    replayed = verified(forge, request({**headers, "X-GitHub-Delivery": "2", "X-Request-Id": "2"}), [SECRET])
    assert captured == replayed


@pytest.mark.covers("hooks.signatures")
def test_gitlab_signs_id_time_and_body() -> None:
    stamp = seconds(NOW) - 200
    good = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(stamp),
        "webhook-signature": f"v1,AAAA v2,x {standard_signature(BODY, 'msg_1', stamp)}",
    }
    secrets = [SIGNING, SECRET]
    first = verified(Forge.GITLAB, request(good), secrets)
    again = {**good, "webhook-timestamp": str(stamp + 1)}
    again["webhook-signature"] = standard_signature(BODY, "msg_1", stamp + 1)
    assert verified(Forge.GITLAB, request(again), secrets) == first

    for wrong in ({"webhook-id": "msg_2"}, {"webhook-timestamp": str(stamp + 1)}, {"webhook-signature": "v1,"}):
        with pytest.raises(Forbidden):
            verified(Forge.GITLAB, request({**good, **wrong}), secrets)
    with pytest.raises(Forbidden):
        verified(Forge.GITLAB, request(good, BODY + b" "), secrets)
    for wrong in ({"webhook-id": ""}, {"webhook-timestamp": "soon"}, {"webhook-timestamp": "9" * 400}):
        with pytest.raises(Unauthenticated):
            verified(Forge.GITLAB, request({**good, **wrong}), secrets)


@pytest.mark.covers("hooks.replay")
def test_an_old_signature_is_refused() -> None:
    for stamp in (seconds(NOW) - 301, seconds(NOW) + 301):
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(stamp),
            "webhook-signature": standard_signature(BODY, "msg_1", stamp),
        }
        with pytest.raises(Forbidden, match="too old"):
            verified(Forge.GITLAB, request(headers), [SIGNING])


@pytest.mark.covers("hooks.signatures")
def test_a_signing_token_is_never_a_password() -> None:
    with pytest.raises(Forbidden):
        verified(Forge.GITLAB, request({"X-Gitlab-Token": SIGNING}), [SIGNING, SECRET])


@pytest.mark.covers("hooks.signatures")
def test_weak_secrets_are_named() -> None:
    assert "at least" in secret_fault("short")
    assert "Base64" in secret_fault("whsec_not base64!")
    assert "bytes" in secret_fault("whsec_AAAA")
    assert secret_fault(SECRET) == secret_fault(SIGNING) == ""
