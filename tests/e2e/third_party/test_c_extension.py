"""A project of others, with a C extension, from its source archive to a working installation, in the sandbox."""

import asyncio
import json
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from buildyard.client.messages import Submission
from e2e.running import finished, job_of, nothing_left, served, step_log
from e2e.third_party.project import PROJECT, PYTHON, SPEEDUPS, repository, sdist
from needs import need, need_program

JOBS: dict[str, dict[str, object]] = {
    "compile": {
        "steps": [
            {"name": "tools", "run": f"{PYTHON} -m pip install --quiet --target tools setuptools wheel"},
            {"name": "build", "run": f"PYTHONPATH=tools {PYTHON} setup.py build_ext --inplace"},
            {"name": "look", "run": "ls -l simplejson/_speedups*.so"},
        ],
        "caches": [".pip-cache"],
        "outputs": ["simplejson/_speedups*.so", "tools/"],
    },
    "test": {
        "needs": ["compile"],
        "run": f'{PYTHON} -c "{SPEEDUPS}" && {PYTHON} -m simplejson.tests._cibw_runner .',
    },
    "wheel": {
        "needs": ["compile"],
        "run": f"PYTHONPATH=$PWD/tools {PYTHON} -m pip wheel --quiet --no-deps --no-build-isolation -w dist .",
        "outputs": ["dist/*.whl"],
    },
    "install": {
        "needs": ["wheel", "test"],
        "steps": [
            {"name": "install", "run": f"{PYTHON} -m venv fresh && fresh/bin/pip install --no-index dist/*.whl"},
            {"name": "use", "run": f'cd / && /workspace/fresh/bin/python -c "{SPEEDUPS}"'},
        ],
    },
}


@pytest.mark.covers("proof.third_party", "engine.revisions.git", "workspace.checkout", "worker.environment")
async def test_a_project_with_a_c_extension_is_compiled_tested_packed_and_installed(
    sandbox: str, tmp_path: Path
) -> None:
    need_program("git")
    need(shutil.which("cc"), "a C compiler (Debian: apt-get install gcc libc6-dev)")
    need((Path(sysconfig.get_path("include")) / "Python.h").exists(), "Python.h (Debian: apt-get install python3-dev)")
    archive = await asyncio.to_thread(sdist, tmp_path)
    commit = await asyncio.to_thread(repository, archive, tmp_path / "source")
    settings = {
        "BUILDYARD_EXECUTOR": sandbox,
        "BUILDYARD_WORKERS": "2",
        "BUILDYARD_ALLOW_LOCAL_SOURCES": "1",
        "BUILDYARD_SANDBOX_READ_ONLY_PATHS": sys.base_prefix,
    }
    async with served(tmp_path / "data", **settings) as yard:
        client = yard.client()
        source = {"git": f"file://{tmp_path}/source/repository", "branch": "main"}
        workflow = {
            "name": PROJECT,
            "source": source,
            "env": {"PIP_CACHE_DIR": "/workspace/.pip-cache", "SOURCE_DATE_EPOCH": "1700000000"},
            "jobs": JOBS,
        }
        build = await client.submit(Submission(workflow=json.dumps(workflow), project=PROJECT))
        tree = await finished(client, build, timeout=240)

        logs = {job.name: await step_log(client, tree, job.name, len(job.attempts[0].steps) - 1) for job in tree.jobs}
        assert tree.build.result == "success", {name: log[-2000:] for name, log in logs.items()}
        assert commit[:12] in tree.build.revision
        assert b"_speedups" in logs["compile"]
        assert b"with speedups /workspace/simplejson/" in logs["test"]
        assert b"\nOK" in logs["test"]
        assert b"with speedups /workspace/fresh/lib" in logs["install"]
        assert commit.encode() in await step_log(client, tree, "compile", 0)
        kept = {artifact.path.rpartition("/")[2] for artifact in (await client.artifacts(build.uid)).artifacts}
        assert any(name.startswith(PROJECT) and name.endswith(".whl") for name in kept)
        assert any(name.endswith(".so") for name in kept)
        assert [len(job.attempts) for job in tree.jobs] == [1] * len(JOBS)
        assert job_of(tree, "install").result == "success"
        await nothing_left(yard.data / "worker")
