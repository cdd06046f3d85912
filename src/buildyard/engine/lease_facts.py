"""What a job is told of its build only when it is leased: ids and addresses, in variables that its spec names."""

import re
from dataclasses import replace

import msgspec

from buildyard.domain.access import Actor
from buildyard.domain.ids import BuildId, JobId
from buildyard.domain.sources import input_name
from buildyard.protocol import JobGrant
from buildyard.store import attempts, builds
from buildyard.store.transactions import Transaction

_PLACE = re.compile(r"\{([a-z]+)\}")


async def with_facts(tx: Transaction, _actor: Actor, grants: list[JobGrant], *, public_url: str) -> list[JobGrant]:
    """The grants of jobs that a worker is about to get, with the variables that their `facts` ask for."""
    return [await _with_facts(tx, grant, public_url) if grant.spec.facts else grant for grant in grants]


async def _with_facts(tx: Transaction, grant: JobGrant, public_url: str) -> JobGrant:
    account = (await attempts.grant_facts(tx, JobId(grant.job))).account_name
    known = {"build": str(grant.build), "account": account, "server": public_url}
    told = {name: filled(text, known) for name, text in grant.spec.facts.items()}
    return msgspec.structs.replace(grant, environment={**grant.environment, **told})


async def with_pins(tx: Transaction, _actor: Actor, grants: list[JobGrant]) -> list[JobGrant]:
    """The grants of jobs that a worker is about to get, with the commits that their sources turned out to be."""
    return [await _with_pins(tx, grant) if grant.spec.sources else grant for grant in grants]


async def _with_pins(tx: Transaction, grant: JobGrant) -> JobGrant:
    build = await builds.get(tx, BuildId(grant.build))
    sources = []
    for source in grant.spec.sources:
        known = await builds.find_input(tx, build.evaluation, input_name(source))
        sources.append(replace(source, git=replace(source.git, commit=known.commit)) if known else source)
    return msgspec.structs.replace(grant, spec=replace(grant.spec, sources=tuple(sources)))


def filled(text: str, known: dict[str, str]) -> str:
    """A text with `{word}` replaced where the word is known."""
    return _PLACE.sub(lambda match: known.get(match[1], match[0]), text)
