"""Reads `notify:` of workflow and yard files: the rules of telling that belong to a pipeline."""

from typing import Any

import yaml

from buildyard.domain.errors import Fault
from buildyard.domain.notifications import (
    Condition,
    EmailTarget,
    Forge,
    Rule,
    StatusTarget,
    Target,
    WebhookTarget,
    rule_faults,
)
from buildyard.engine.document_fields import Bad, Read, Reading, listing, mapping, one_of, text, truth

MOST_RULES = 50
KINDS = ("email", "webhook", "status")
_KEYS = {
    "email": {"email"},
    "webhook": {"webhook", "secret", "started"},
    "status": {"status", "repository", "token", "api"},
}
_PLACES = {"to": "email", "url": "webhook"}
"""Where the file names what a rule calls otherwise."""


def _rule(reading: Reading, node: yaml.Node, path: str) -> Rule | None:
    """`{email: […] | webhook: … | status: …, on: …}`; None if it has faults, which are noted."""
    before = len(reading.faults)
    values = mapping(reading, node, path, _RULE)
    if len(reading.faults) > before:
        return None
    kinds = [kind for kind in KINDS if kind in values]
    if len(kinds) != 1:
        raise Bad(f"must have one of {', '.join(KINDS)}")
    kind = kinds[0]
    foreign = sorted(values.keys() - _KEYS[kind] - {"on"})
    if foreign:
        raise Bad(f"{foreign[0]} does not go with {kind}")
    usual = Condition.ALWAYS if kind == "status" else Condition.FAILURE
    rule = Rule(target=_target(kind, values), condition=Condition(values.get("on", usual)))
    for fault in rule_faults(rule, allow_local=True):
        reading.fault(node, f"{path}.{_place(fault)}", fault.message, fault.code)
    return rule if len(reading.faults) == before else None


def _place(fault: Fault) -> str:
    name, bracket, rest = fault.path.partition("[")
    return _PLACES.get(name, name) + bracket + rest


def _target(kind: str, values: dict[str, Any]) -> Target:
    if kind == "email":
        return EmailTarget(to=values["email"])
    if kind == "webhook":
        return WebhookTarget(
            url=values["webhook"], secret=values.get("secret", ""), started=values.get("started", False)
        )
    return StatusTarget(
        forge=Forge(values["status"]),
        repository=values.get("repository", ""),
        token=values.get("token", ""),
        api=values.get("api", ""),
    )


def read_rules(reading: Reading, node: yaml.Node, path: str) -> tuple[Rule, ...]:
    """The list of rules, those without faults."""
    return tuple(rule for rule in _RULES(reading, node, path) if rule is not None)


_RULES = listing(_rule, most=MOST_RULES)
_RULE: dict[str, Read] = {
    "email": listing(text),
    "webhook": text,
    "status": one_of(*Forge),
    "on": one_of(*Condition),
    "secret": text,
    "started": truth,
    "repository": text,
    "token": text,
    "api": text,
}
