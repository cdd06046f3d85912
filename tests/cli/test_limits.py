"""What hits a limit is the job's result, and its log says so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from buildyard.adapters.executors.cgroups import find_cgroups
from buildyard.adapters.executors.trees import identify
from installation import Installation
from needs import need

Write = Callable[[str, str], Path]

WORKFLOW = """
jobs:
  memory: {run: "set -o pipefail; head -c 200M /dev/zero | tail | wc -c", limits: {memory: 64MiB}}
  pids: {run: "sh -c 'for i in $(seq 100); do sleep 100 & done'", limits: {pids: 20}}
  wall: {run: "sleep 1000", timeout: 1s}
  silent: {run: "echo once; sleep 1000", silent_timeout: 1s}
  log: {run: "yes", limits: {log: 10KiB}}
  outputs: {run: "head -c 20K /dev/zero > file", outputs: [file], limits: {output: 10KiB}}
"""
SAID = {
    "memory": ("failure", "memory_limit", "memory limit of 64 MiB reached"),
    "pids": ("failure", "pids_limit", "limit of 20 processes reached"),
    "wall": ("timeout", "wall", "wall time limit of 1 s reached"),
    "silent": ("timeout", "silent", "no output for 1 s"),
    "log": ("log_limit", "", "log limit of 10 KiB reached"),
    "outputs": ("output_limit", "", "outputs of 20 KiB are over the limit of 10 KiB"),
}


@pytest.mark.covers(
    "executors.limits.memory",
    "executors.limits.pids",
    "executors.limits.wall",
    "executors.limits.output",
    "engine.jobs.timeout",
)
def test_each_limit_that_is_hit_is_the_result_and_is_said_in_the_log(installation: Installation, write: Write) -> None:
    found = find_cgroups(identify(installation.data))
    need(found and found.enforces("memory") and found.enforces("pids"), "writable cgroups for memory and pids")
    installation.variables |= {"BUILDYARD_WORKER_SEPARATE_USER": "0", "BUILDYARD_WORKERS": "6"}
    installation.start()

    outcome = installation("run", str(write("w.yml", WORKFLOW)), "--logs", "none")

    jobs = installation("show", "1", "--json").json["jobs"]
    assert outcome.code == 1
    assert {job["name"]: (job["result"], job["cause"]) for job in jobs} == {
        name: said[:2] for name, said in SAID.items()
    }
    for name, (_, _, words) in SAID.items():
        assert installation("logs", "1", name, "--step", "run").out.endswith(f"{words}\n"), name
