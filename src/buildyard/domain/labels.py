"""Whether a worker fits what a job asks for. A feature of a machine is a label with a prefix: tokens fix it alike."""

from dataclasses import dataclass

from buildyard.domain.specs import Requirement

FEATURE = "feature:"
"""What the labels for features of machines begin with."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker has: labels, executors (by name), and its system (`x86_64-linux`)."""

    labels: frozenset[str]
    executors: frozenset[str]
    system: str


def fits(offer: Offer, requirement: Requirement) -> bool:
    """Whether a worker with this offer may run jobs with this requirement."""
    return (
        offer.labels.issuperset(requirement.labels)
        and (not requirement.executor or requirement.executor in offer.executors)
        and (not requirement.system or requirement.system == offer.system)
    )


def requirement_key(requirement: Requirement) -> str:
    """One text for all equal requirements: what the table `requirements` is unique by."""
    parts = [",".join(sorted(set(requirement.labels))), requirement.executor, requirement.system]
    if requirement.locks:
        parts.append(",".join(f"{name}={most}" for name, most in sorted(set(requirement.locks))))
    return "\n".join(parts)


def requirement_of(key: str) -> Requirement:
    """The requirement that has this key."""
    labels, executor, system, *more = key.split("\n")
    locks = [lock.rpartition("=") for lock in more[0].split(",")] if more else []
    return Requirement(
        labels=tuple(label for label in labels.split(",") if label),
        executor=executor,
        system=system,
        locks=tuple((name, int(most)) for name, _, most in locks),
    )


def feature_label(feature: str) -> str:
    """The label by which a worker offers a feature of its machine (`kvm`), and a job requires it."""
    return FEATURE + feature
