"""Who may take the job of a manifest: workers, not scripts for single steps."""

import pytest

from buildyard.domain.errors import Conflict
from buildyard.domain.labels import Offer
from buildyard.engine import manifest_jobs, runners
from buildyard.engine.manifest_jobs import NewManifestJob
from world import World, job

TEXT = "image: debian/stable\ntasks:\n  - hello: echo hello\n"


@pytest.mark.covers("sourcehut.manifest.workers")
async def test_scripts_for_single_steps_are_not_given_the_jobs_of_manifests(world: World) -> None:
    made = await manifest_jobs.submit_manifest(world.engine, world.owner, NewManifestJob(text=TEXT))
    plain = await world.submit(job("a"))
    (uid,), (other,) = [[one.job.uid for one in (await world.jobs(view)).values()] for view in (made, plain)]
    offer = Offer(frozenset(), frozenset({"process"}), "x86_64-linux")

    with pytest.raises(Conflict, match="workers run"):
        await runners.claim_step(world.engine, world.owner, uid)
    first = await runners.claim_next_step(world.engine, world.owner, offer, wait_s=0)
    second = await runners.claim_next_step(world.engine, world.owner, offer, wait_s=0)

    assert first is not None
    assert (first[0], second) == (other, None)
