"""Workflow files: every key is understood, and every fault is told at once, with its path and place."""

import json

import pytest

from buildyard.domain.errors import Fault, Invalid, TooLarge
from buildyard.domain.specs import (
    SHARED,
    Approval,
    CacheSpec,
    Concurrency,
    GitSource,
    Limits,
    LockScope,
    LockSpec,
    Requirement,
    Retry,
    ServiceSpec,
    StepSpec,
)
from buildyard.domain.states import Result
from buildyard.engine.workflow_files import Workflow, read_workflow

EVERYTHING = b"""
name: hello
env: {COMMON: "1", PY: "0"}
source: {git: "https://example.org/hello.git", branch: main, commit: 0123456789abcdef, shallow: no, submodules: off}
jobs:
  build:
    image: debian-12
    run: make
    outputs: dist/
  test:
    needs: [build]
    matrix: {py: [3.10, "3.11"], os: linux}
    steps:
      - name: check
        run: |
          make check
        shell: sh
        env: {DEBUG: yes, EMPTY: ''}
        timeout: 90s
      - make more
    env: {PY: on}
    caches:
      - .pip/
      - path: node_modules
        key_files: [package-lock.json, "**/*.lock"]
    outputs: [report.xml, "logs/**"]
    labels: [linux, gpu:a100]
    executor: sandbox
    system: x86_64-linux
    timeout: 1h30m
    silent_timeout: 10m
    limits: {cpus: 1.5, memory: 512MiB, pids: 100, log: 1 MB, output: 2GiB}
    retry: {count: 2, on: [failure, timeout]}
    priority: -5
    allow_failure: true
    network: none
"""


def faults_of(text: str) -> list[Fault]:
    """What is wrong with a file."""
    with pytest.raises(Invalid) as caught:
        read_workflow(text.encode())
    return list(caught.value.faults)


def job(fields: str) -> str:
    """A file of one job with further keys."""
    return f"jobs: {{a: {{run: make, {fields}}}}}"


def test_every_key_of_a_job_is_understood() -> None:
    workflow = read_workflow(EVERYTHING)

    build, cell, other = workflow.spec.jobs
    assert (build.name, cell.name, other.name) == ("build", "test (3.10, linux)", "test (3.11, linux)")
    assert build.steps == (StepSpec(name="run", run="make"),)
    assert build.outputs == ("dist",)
    assert build.environment == {"COMMON": "1", "PY": "0"}
    assert cell.needs == ("build",)
    assert cell.environment == {"COMMON": "1", "PY": "on", "py": "3.10", "os": "linux"}
    assert cell.steps == (
        StepSpec(name="check", run="make check\n", shell="sh", environment={"DEBUG": "yes", "EMPTY": ""}, timeout_s=90),
        StepSpec(name="step 2", run="make more"),
    )
    assert cell.caches == (
        CacheSpec(path=".pip"),
        CacheSpec(path="node_modules", key_files=("package-lock.json", "**/*.lock")),
    )
    assert cell.outputs == ("report.xml", "logs/**")
    assert cell.require == Requirement(labels=("linux", "gpu:a100"), executor="sandbox", system="x86_64-linux")
    assert cell.limits == Limits(
        wall_s=5400, silent_s=600, cpus=1.5, memory_bytes=512 << 20, pids=100, log_bytes=1 << 20, output_bytes=2 << 30
    )
    assert cell.retry == Retry(count=2, on=(Result.FAILURE, Result.TIMEOUT))
    assert (cell.priority, cell.allow_failure, cell.network) == (-5, True, "none")


@pytest.mark.covers("blockers.files")
def test_services_are_read() -> None:
    text = b"""
jobs:
  test:
    run: make
    services:
      db: {image: "postgres:17", command: [postgres, -c, fsync=off], env: {A: 1}, ready: pg_isready, timeout: 2m}
      cache: {image: redis}
"""
    (job,) = read_workflow(text).spec.jobs

    assert job.services == (
        ServiceSpec(
            name="db",
            image="postgres:17",
            command=("postgres", "-c", "fsync=off"),
            environment={"A": "1"},
            ready="pg_isready",
            ready_s=120,
        ),
        ServiceSpec(name="cache", image="redis"),
    )


@pytest.mark.parametrize(
    ("services", "path"),
    [
        ("{DB: {image: x}}", "jobs.a.services.DB"),
        ("{localhost: {image: x}}", "jobs.a.services.localhost"),
        ("{db: {}}", "jobs.a.services.db.image"),
        ("{db: {image: x, ports: [1]}}", "jobs.a.services.db.ports"),
        ("{db: {image: x, env: {A-B: 1}}}", "jobs.a.services.db.env.A-B"),
        ("[db]", "jobs.a.services"),
    ],
)
def test_a_fault_of_a_service_is_told_with_its_path(services: str, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_workflow(f"jobs: {{a: {{run: x, services: {services}}}}}".encode())

    assert path in [fault.path for fault in caught.value.faults]


def test_locks_approval_and_concurrency_are_read() -> None:
    spec = read_workflow(b"""
concurrency: {group: "deploy-$branch", limit: 2, cancel: older}
jobs:
  a:
    run: x
    locks: [db, {name: all, scope: server, shared: yes}, {name: port, scope: worker, count: 3}]
    approval: {users: alice, roles: [admin], expires: 2h, message: "Look at the plan."}
""").spec
    (only,) = spec.jobs

    assert spec.concurrency == Concurrency(group="deploy-$branch", limit=2, cancel_older=True)
    assert only.locks == (LockSpec(name="db"), LockSpec(name="all", scope=LockScope.SERVER, most=SHARED))
    assert only.require == Requirement(locks=(("port", 3),))
    assert only.approval == Approval(users=("alice",), roles=("admin",), expires_s=7200, message="Look at the plan.")
    assert read_workflow(b"concurrency: one\njobs: {a: {run: x}}").spec.concurrency == Concurrency(group="one")


def test_name_and_source_of_the_pipeline_are_read() -> None:
    workflow = read_workflow(EVERYTHING)

    assert workflow.name == "hello"
    assert workflow.source == GitSource(
        url="https://example.org/hello.git", branch="main", commit="0123456789abcdef", shallow=False, submodules=False
    )


def test_a_short_file_is_enough() -> None:
    workflow = read_workflow(b"jobs: {a: {run: make}}")

    assert [job.name for job in workflow.spec.jobs] == ["a"]
    assert (workflow.name, workflow.source) == ("", None)


def test_who_needs_a_job_with_a_matrix_needs_all_its_cells() -> None:
    text = b"jobs: {t: {matrix: {v: [1, 2]}, run: x}, end: {needs: t, run: y}}"

    assert read_workflow(text).spec.jobs[-1].needs == ("t (1)", "t (2)")


def test_the_values_of_an_axis_can_be_replaced() -> None:
    text = b"jobs: {t: {matrix: {v: [1, 2]}, run: x}}"

    assert [job.name for job in read_workflow(text, matrix={"v": ("9",)}).spec.jobs] == ["t (9)"]


def test_replacing_an_axis_that_no_job_has_is_a_fault() -> None:
    with pytest.raises(Invalid) as caught:
        read_workflow(b"jobs: {t: {run: x}}", matrix={"v": ("9",)})
    assert "no job has the axis 'v'" in caught.value.faults[0].message


def test_merged_mappings_are_taken_in_and_own_keys_win() -> None:
    text = b"""
jobs:
  a: &base {run: make, priority: 1, image: x}
  b: {<<: *base, priority: 2}
"""
    second = read_workflow(text).spec.jobs[1]

    assert (second.steps[0].run, second.priority, second.image) == ("make", 2, "x")


def test_json_says_the_same_as_yaml() -> None:
    value = {
        "name": "ü",
        "jobs": {"a": {"run": 'echo "ü"\n', "needs": []}, "b": {"needs": ["a"], "steps": [{"run": "x"}]}},
    }

    escaped = read_workflow(json.dumps(value).encode())
    plain = read_workflow(json.dumps(value, ensure_ascii=False, indent="\t").encode())

    assert escaped == plain
    assert escaped.name == "ü"
    assert escaped.spec.jobs[0].steps[0].run == 'echo "ü"\n'


def test_a_list_of_retries_may_be_a_number() -> None:
    assert read_workflow(job("retry: 2").encode()).spec.jobs[0].retry.count == 2


FAULTS = [
    ("jobs: {a: {runn: x}}", "jobs.a.runn", "unknown key; did you mean 'run'?"),
    ("jbos: {}", "jbos", "did you mean 'jobs'"),
    ("name: x", "jobs", "is missing"),
    ("jobs: {}", "jobs", "is empty"),
    ("jobs: [a]", "jobs", "must be a mapping of keys to values, not a list"),
    ("- a", "", "must be a mapping of keys to values, not a list"),
    ("jobs: {a: }", "jobs.a", "must be a mapping of keys to values, not nothing"),
    ("jobs: {a: {}}", "jobs.a.steps", "is missing"),
    ("jobs: {a: {steps: []}}", "jobs.a.steps", "is missing"),
    ("jobs: {a: {steps: make}}", "jobs.a.steps", "must be a list"),
    ("jobs: {a: {run: x, steps: [y]}}", "jobs.a.run", "either steps or run"),
    ("jobs: {a: {run: ' '}}", "jobs.a.run", "must not be empty"),
    ("jobs: {a: {run: }}", "jobs.a.run", "has no value"),
    ("jobs: {a: {run: [x]}}", "jobs.a.run", "must be text, not a list"),
    ('jobs: {a: {run: "a\\0b"}}', "jobs.a.run", "NUL"),
    (f"jobs: {{a: {{run: {'x' * 600_000}}}}}", "jobs.a.run", "512 KiB"),
    ("jobs: {a: {steps: [{name: x}]}}", "jobs.a.steps[0].run", "is missing"),
    ("jobs: {a: {steps: [{run: x, name: ''}]}}", "jobs.a.steps[0].name", "1 to 100 characters"),
    ("jobs: {a: {steps: [{run: x, shell: 'a b'}]}}", "jobs.a.steps[0].shell", "program"),
    ("jobs: {a: {steps: [{run: x, timeout: soon}]}}", "jobs.a.steps[0].timeout", "must be a time"),
    ("jobs: {a: {steps: [{run: x, env: {1a: b}}]}}", "jobs.a.steps[0].env.1a", "not a name for a variable"),
    ("jobs: {a: {run: x}, a: {run: y}}", "jobs.a", "stands here twice"),
    (f"jobs: {{{'n' * 101}: {{run: x}}}}", f"jobs.{'n' * 101}", "1 to 100 characters"),
    ("jobs: {'a\tb': {run: x}}", "jobs['a\\tb']", "control character"),
    ("jobs: {a: {run: x, needs: b}}", "jobs.a.needs[0]", "there is no 'b' here"),
    ("jobs: {a: {run: x, needs: [a]}}", "jobs.a.needs[0]", "depends on itself"),
    ("jobs: {a: {run: x, needs: [b]}, b: {run: x, needs: [a]}}", "jobs.a.needs", "cycle: a → b → a"),
    (job("env: {A: }"), "jobs.a.env.A", "has no value"),
    (job("env: [A]"), "jobs.a.env", "must be a mapping"),
    (job("caches: [../x]"), "jobs.a.caches[0]", "must not hold .."),
    (job("caches: [{key_files: x}]"), "jobs.a.caches[0].path", "is missing"),
    (job("caches: [{path: x, key_files: [/y]}]"), "jobs.a.caches[0].key_files[0]", "must be relative"),
    (job("caches: ['*.o']"), "jobs.a.caches[0]", "plain path"),
    (job("outputs: /etc"), "jobs.a.outputs", "must be relative"),
    (job("labels: ['a,b']"), "jobs.a.labels[0]", "must be a label"),
    (job("executor: ''"), "jobs.a.executor", "must be the name of an executor"),
    (job("system: 'a b'"), "jobs.a.system", "must be the name of a system"),
    (job("timeout: 0"), "jobs.a.timeout", "must be a time"),
    (job("timeout: 8000h"), "jobs.a.timeout", "at most 7 days"),
    (job("silent_timeout: -1"), "jobs.a.silent_timeout", "must be a time"),
    (job("limits: {cpus: 0}"), "jobs.a.limits.cpus", "0.01 to 1024"),
    (job("limits: {memory: lots}"), "jobs.a.limits.memory", "must be a size"),
    (job("limits: {pids: 0}"), "jobs.a.limits.pids", "from 1 to"),
    (job("limits: {disk: 1}"), "jobs.a.limits.disk", "unknown key"),
    (job("retry: {count: 11}"), "jobs.a.retry.count", "from 0 to 10"),
    (job("retry: {on: [success]}"), "jobs.a.retry.on[0]", "must be one of failure"),
    (job("priority: high"), "jobs.a.priority", "must be a whole number"),
    (job("allow_failure: maybe"), "jobs.a.allow_failure", "true or false"),
    (job("network: lan"), "jobs.a.network", "must be one of default, none, host"),
    (job("matrix: {py: []}"), "jobs.a.matrix.py", "at least one value"),
    (job("matrix: {py: [1, 1]}"), "jobs.a.matrix.py", "twice"),
    (job("matrix: {a-b: [1]}"), "jobs.a.matrix.a-b", "not a name for a variable"),
    (job(f"matrix: {{a: {list(range(40))}, b: {list(range(40))}}}"), "jobs.a.matrix", "more than 1000 cells"),
    (job("matrix: {v: [1]}") + "\nsource: {}", "source.git", "is missing"),
    ("source: {git: 'ext::sh'}\njobs: {a: {run: x}}", "source.git", "is not a repository address"),
    ("source: {git: file:///x}\njobs: {a: {run: x}}", "source.git", "BUILDYARD_ALLOW_LOCAL_SOURCES"),
    ("source: {git: 'https://h/x', commit: HEAD}\njobs: {a: {run: x}}", "source.commit", "hexadecimal"),
    ("source: {git: 'https://h/x', branch: -x}\njobs: {a: {run: x}}", "source.branch", "branch or tag"),
    (job("locks: [{scope: server}]"), "jobs.a.locks[0].name", "is missing"),
    (job("locks: [a b]"), "jobs.a.locks[0]", "must be the name of a lock"),
    (job("locks: [a, {name: a}]"), "jobs.a.locks", "a lock twice"),
    (job("locks: {name: a, scope: world}"), "jobs.a.locks.scope", "must be one of project, server, worker"),
    (job("locks: {name: a, count: 0}"), "jobs.a.locks.count", "from 1 to 10000"),
    (job("locks: {name: a, count: 2, shared: yes}"), "jobs.a.locks.count", "either shared or counted"),
    (job("approval: {expires: 1h}"), "jobs.a.approval.users", "names users, roles or both"),
    (job("approval: {roles: [king]}"), "jobs.a.approval.roles[0]", "must be one of viewer, developer, admin, owner"),
    (job("approval: {users: [a@b]}"), "jobs.a.approval.users[0]", "must be the name of a user"),
    (job("approval: yes"), "jobs.a.approval", "must be a mapping"),
    ("concurrency: {limit: 1}\njobs: {a: {run: x}}", "concurrency.group", "is missing"),
    ("concurrency: x$tag\njobs: {a: {run: x}}", "concurrency", "there is no $tag here"),
    ("concurrency: {group: x, cancel: newer}\njobs: {a: {run: x}}", "concurrency.cancel", "one of older, none"),
    ("jobs: {t: {matrix: {v: [1]}, run: x}, t (1): {run: y}}", "jobs", "two jobs are named 't (1)'"),
]


@pytest.mark.covers("blockers.files")
@pytest.mark.parametrize(("text", "path", "message"), FAULTS, ids=[f"{path}: {message}" for _, path, message in FAULTS])
def test_a_fault_is_told_with_its_path(text: str, path: str, message: str) -> None:
    faults = faults_of(text)

    assert path in [fault.path for fault in faults]
    assert message in next(fault.message for fault in faults if fault.path == path)


def test_all_faults_are_told_at_once_with_line_and_column() -> None:
    text = """
jobs:
  a:
    run: make
    prioritty: 1
    timeout: soon
  b:
    needs: [c]
    run: make
    caches:
      - ok
      - /no
"""
    found = {fault.path: fault.message.rpartition("(")[2].rstrip(")") for fault in faults_of(text)}

    assert found == {
        "jobs.a.prioritty": "line 5, column 5",
        "jobs.a.timeout": "line 6, column 14",
        "jobs.b.caches[1]": "line 12, column 9",
        "jobs.b.needs[0]": "line 8, column 13",
    }


UNREADABLE = [
    ("", "is empty"),
    ("# nothing\n", "is empty"),
    ("a: [", "did not find expected node content (line 2, column 1)"),
    ("a: b: c", "line 1, column 5"),
    ("a: \x01", "control characters are not allowed"),
    ("--- a\n--- b\n", "another document"),
    ("a: !!python/object/apply:os.system [x]", "tag:yaml.org,2002:python/object/apply:os.system is not allowed"),
    ("a: !mine x", "the tag !mine is not allowed"),
    ("a: *b", "undefined alias"),
    ("a: &a [*a]", "an alias contains itself"),
    ("a: &a [x]\nb: [" + "*a," * 201 + "]", "more than 200 aliases"),
    ("[" * 40 + "]" * 40, "nested deeper than 32 levels"),
    ('{"a": ' * 20_000 + "1" + "}" * 20_000, "nested deeper than 32 levels"),
    ('{"jobs": {"a": 1 2}}', "line 1, column 18"),
]


@pytest.mark.parametrize(("text", "message"), UNREADABLE, ids=[message for _, message in UNREADABLE])
def test_what_cannot_be_read_says_why(text: str, message: str) -> None:
    [fault] = faults_of(text)

    assert message in fault.message


def test_a_file_that_is_not_utf8_says_so() -> None:
    with pytest.raises(Invalid, match=r"is not UTF-8 text \(byte 6\)"):
        read_workflow(b"jobs: \xff")


def test_aliases_of_aliases_cannot_fill_the_memory() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 12))

    [fault] = faults_of(f"l0: &l0 [{', '.join('x' * 10)}]\n{levels}")

    assert "stands for more than 500000 values" in fault.message


def test_a_file_over_a_mebibyte_is_refused() -> None:
    with pytest.raises(TooLarge, match="1024 KiB"):
        read_workflow(b"#" * (1024 * 1024 + 1))


def test_ten_thousand_jobs_in_a_chain_are_read() -> None:
    jobs = {f"j{i}": {"run": "true", "needs": [f"j{i - 1}"] if i else []} for i in range(10_000)}

    workflow: Workflow = read_workflow(json.dumps({"jobs": jobs}).encode())

    assert len(workflow.spec.jobs) == 10_000


def test_a_cycle_of_thousands_of_jobs_is_told_briefly() -> None:
    jobs = {f"j{i}": {"run": "true", "needs": [f"j{i - 1 if i else 1999}"]} for i in range(2_000)}

    faults = faults_of(json.dumps({"jobs": jobs}))

    assert len(faults) == 201
    assert "and 1800 more" in faults[-1].message
