"""`shell: true` of a manifest, and one that fails: the shell is in the home folder where the tasks ran."""

import pytest

from buildyard.engine.manifest_plans import ManifestOptions, plan_manifest
from buildyard.engine.manifests import read_manifest
from e2e.attach.conftest import Ground
from podman import IMAGE

pytestmark = pytest.mark.covers("sourcehut.attach.shell")

TASKS = """
image: here
shell: true
environment: {GREETING: hello}
tasks:
- one: echo "$GREETING" > note
- two: "false"
"""
NO_TASKS = "{image: here, shell: true}"


@pytest.mark.parametrize(("text", "log"), [(TASKS, 2), (NO_TASKS, 0)], ids=["failed", "no tasks"])
async def test_a_manifest_that_asks_for_a_shell_gets_one_at_home(ground: Ground, text: str, log: int) -> None:
    options = ManifestOptions(images={"here": IMAGE}, shell_s=600)
    (spec,) = plan_manifest(read_manifest(text), options).jobs
    async with ground.working():
        build = await ground.world.submit(spec)
        await ground.finished(build)

        assert (await ground.log(build, log)).endswith(f"; to get in: buildyard attach {build.build.id} job\n")
        async with ground.attached(await ground.token("bob"), build) as bob:
            await bob.sees(b"attached")
            bob.type(b"[ $PWD = ~ ] && echo at ho''me; cat note ~/.buildenv | grep -c hello; exit\n")
            await bob.sees(b"at home")
            await bob.sees(b"2\r\n" if text is TASKS else b"0\r\n")
