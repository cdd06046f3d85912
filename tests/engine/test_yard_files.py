"""Yard files: read whole, or refused with every fault and its place."""

from pathlib import Path

import pytest

from buildyard.bootstrap.yard import load_yard
from buildyard.domain.access import Visibility
from buildyard.domain.errors import Invalid, NotFound, TooLarge
from buildyard.domain.specs import GitSource
from buildyard.domain.states import Result
from buildyard.domain.triggers import Cron, Filters, Manual, Missed, Parameter, ParameterType, Poll, Push, Upstream
from buildyard.domain.yard import Yard, YardWorker

EXAMPLE = """\
projects:
  hello:
    pipelines:
      runtests:
        source: {git: https://example.org/hello.git, branch: main}
        jobs:
          build: {image: debian-12, steps: [{name: compile, run: make}], outputs: [dist/]}
          test:  {needs: [build], matrix: {py: ["3.11", "3.12"]}, steps: [{name: test, run: "make check PY=$py"}]}
        triggers:
          - push: {branches: [main]}
          - cron: "0 3 * * *"
          - manual: {name: force, parameters: {reason: {type: string, required: true}}}
workers: {w1: {password_file: w1.secret, labels: [linux]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w1.secret").write_text("a-secret-of-24-characters\n")
    return tmp_path


def read(folder: Path, text: str) -> Yard:
    (folder / "yard.yml").write_text(text)
    return load_yard(folder / "yard.yml", allow_local=False)


def faults(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(Invalid) as raised:
        read(folder, text)
    assert str(raised.value) == "yard.yml has faults"
    return {fault.path: fault.message for fault in raised.value.faults}


@pytest.mark.covers("yard.schema")
def test_the_example_of_the_design_is_read(folder: Path) -> None:
    yard = read(folder, EXAMPLE)

    (project,), (pipeline,) = yard.projects, yard.projects[0].pipelines
    assert (project.slug, project.name, project.visibility) == ("hello", "hello", Visibility.PUBLIC)
    assert [job.name for job in pipeline.spec.jobs] == ["build", "test (3.11)", "test (3.12)"]
    assert pipeline.source == GitSource(url="https://example.org/hello.git", branch="main")
    assert [(one.name, one.spec, one.pipelines) for one in project.triggers] == [
        ("hello-runtests-push", Push(filters=Filters(branches=("main",))), ("runtests",)),
        ("hello-runtests-cron", Cron(line="0 3 * * *"), ("runtests",)),
        ("force", Manual(parameters=(Parameter(name="reason", required=True),)), ("runtests",)),
    ]
    assert yard.workers == (YardWorker(name="w1", secret="a-secret-of-24-characters", labels=("linux",), project=""),)
    assert "a-secret" not in repr(yard)


@pytest.mark.covers("yard.schema")
def test_every_kind_of_trigger_has_all_its_keys(folder: Path) -> None:
    yard = read(
        folder,
        """\
projects:
  p:
    name: The project
    private: true
    account: team
    pipelines: {a: {jobs: {j: {run: make}}}, b: {jobs: {j: {run: make}}}, c: {jobs: {j: {run: make}}}}
    triggers:
      - push: {pipelines: [a, b], branches: main, tags: "v*", exclude_paths: [docs/], skip_words: [nope]}
      - poll: {pipelines: a, interval: 1m30s, fire_first: true, cancel_superseded: true}
      - cron: {pipelines: [a], line: "30 2 * * 1", timezone: Europe/Berlin, missed: all, parameters: {DEEP: "1"}}
      - upstream: {pipelines: [b], pipeline: a, results: [success, failure], parameter: FROM}
      - upstream: {pipelines: [c], pipeline: p/b, name: last}
      - manual:
          pipelines: [a]
          button: Go
          parameters:
            N: {type: int, min: 1, max: 9, default: 3}
            WHERE: {type: choice, choices: [here, there], default: here, label: To which place}
            TAG: {pattern: "v[0-9]+"}
            SURE: {type: bool}
            TEXT: {type: text}
""",
    )
    (project,) = yard.projects
    assert (project.name, project.account, project.visibility) == ("The project", "team", Visibility.PRIVATE)
    assert {one.name: one.spec for one in project.triggers} == {
        "p-push": Push(
            filters=Filters(branches=("main",), tags=("v*",), exclude_paths=("docs/",)), skip_words=("nope",)
        ),
        "p-a-poll": Poll(interval_s=90, fire_first=True, cancel_superseded=True),
        "p-a-cron": Cron(line="30 2 * * 1", timezone="Europe/Berlin", missed=Missed.ALL, parameters={"DEEP": "1"}),
        "p-b-upstream": Upstream(pipeline="p/a", results=(Result.SUCCESS, Result.FAILURE), parameter="FROM"),
        "last": Upstream(pipeline="p/b"),
        "p-a-manual": Manual(
            button="Go",
            parameters=(
                Parameter(name="N", type=ParameterType.INT, minimum=1, maximum=9, default="3"),
                Parameter(
                    name="WHERE",
                    type=ParameterType.CHOICE,
                    choices=("here", "there"),
                    default="here",
                    label="To which place",
                ),
                Parameter(name="TAG", pattern="v[0-9]+"),
                Parameter(name="SURE", type=ParameterType.BOOL),
                Parameter(name="TEXT", type=ParameterType.TEXT),
            ),
        ),
    }


@pytest.mark.covers("yard.faults")
def test_all_faults_of_all_parts_are_told_at_once_with_their_places(folder: Path) -> None:
    found = faults(
        folder,
        """\
projects:
  hello world: {}
  p:
    pipeline: {}
    pipelines:
      a:
        source: {git: "file:///etc"}
        jobs: {j: {run: make, needs: [x]}}
        triggers:
          - push: {branch: main}
          - cron: "0 3 * *"
          - cron: {line: "0 3 * * *", timezone: Mars/Olympus}
          - cron: "0 0 31 2 *"
          - hourly: {}
          - manual:
              parameters:
                {"a b": {}, N: {type: int, default: x}, C: {type: choice}, S: {min: 1}, B: {pattern: "("}}
      b: {jobs: {}}
      c: {}
    triggers:
      - manual: {}
workers:
  w1: {password_file: nowhere}
  w2: {labels: ["no good"]}
""",
    )
    expected = {
        "projects['hello world']": "the name of a project",
        "projects.p.pipeline": "unknown key; did you mean 'pipelines'? (line 4, column 5)",
        "projects.p.pipelines.a.source.git": "(line 7, column 23)",
        "projects.p.pipelines.a.jobs.j.needs[0]": "there is no 'x' here (line 8, column ",
        "projects.p.pipelines.a.triggers[0].push.branch": "unknown key; did you mean 'branches'? (line 10, column 20)",
        "projects.p.pipelines.a.triggers[1].cron": "must have five fields (minute, hour, day, month, weekday), not 4",
        "projects.p.pipelines.a.triggers[2].cron": "there is no time zone 'Mars/Olympus' (line 12, column 19)",
        "projects.p.pipelines.a.triggers[3].cron": "is not a cron line: bad day-of-month",
        "projects.p.pipelines.a.triggers[4].hourly": "unknown kind of trigger; known are ",
        "projects.p.pipelines.a.triggers[5].manual.parameters['a b']": "is not a name for a variable",
        "projects.p.pipelines.a.triggers[5].manual.parameters.N.default": "must be a whole number",
        "projects.p.pipelines.a.triggers[5].manual.parameters.C": "a parameter of type choice has choices",
        "projects.p.pipelines.a.triggers[5].manual.parameters.S": "only a parameter of type int has minimum",
        "projects.p.pipelines.a.triggers[5].manual.parameters.B.pattern": "is not a regular expression",
        "projects.p.pipelines.b.jobs": "is empty: a workflow has at least one job",
        "projects.p.pipelines.c.jobs": "is missing: a workflow has at least one job",
        "projects.p.triggers[0].manual.pipelines": "is missing: what does it start?",
        "workers.w1.password_file": "cannot be read: No such file or directory (line 23, column 23)",
        "workers.w2.labels[0]": "must be a label",
        "workers.w2.password_file": "is missing",
    }
    assert found.keys() == expected.keys()
    assert {path: text for path, text in expected.items() if text not in found[path]} == {}
    assert all("(line " in message for message in found.values())


JOBS = "jobs: {j: {run: make}}"


@pytest.mark.covers("yard.faults")
@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (
            f"projects: {{p: {{pipelines: {{a: {{{JOBS}, triggers: [upstream: {{pipeline: a}}]}}}}}}}}",
            "projects.p.pipelines.a.triggers[0].upstream",
            "builds of p/a would start each other for ever",
        ),
        (
            f"projects: {{p: {{pipelines: {{a: {{{JOBS}, triggers: [upstream: {{pipeline: q/a}}]}}}}}}}}",
            "projects.p.pipelines.a.triggers[0].upstream.pipeline",
            "there is no pipeline 'q/a' here",
        ),
        (
            f"projects: {{p: {{pipelines: {{a: {{{JOBS}}}}}, triggers: [manual: {{pipelines: [b]}}]}}}}",
            "projects.p.triggers[0].manual.pipelines[0]",
            "there is no pipeline 'b' here",
        ),
        (
            f"projects: {{p: {{pipelines: {{a: {{{JOBS}, triggers: [manual: {{name: x}}, manual: {{name: x}}]}}}}}}}}",
            "projects.p.pipelines.a.triggers[1].manual.name",
            "another trigger is named 'x'",
        ),
        (
            "workers: {a: {password_file: w1.secret}, b: {password_file: w1.secret}}",
            "workers.b.password_file",
            "another worker has the same password",
        ),
        ("workers: {a: {password_file: w1.secret, project: p}}", "workers.a.project", "there is no project 'p' here"),
        ("workers: {a: {password_file: short}}", "workers.a.password_file", "must hold one word of at least 16"),
    ],
)
def test_what_does_not_go_together_is_told(folder: Path, text: str, path: str, message: str) -> None:
    (folder / "short").write_text("short")
    found = faults(folder, text)

    assert list(found) == [path]
    assert found[path].startswith(message)
    assert "(line 1, column" in found[path]


@pytest.mark.covers("yard.faults")
def test_a_cycle_of_several_pipelines_is_found(folder: Path) -> None:
    def pipeline(name: str, after: str) -> str:
        return f"{name}: {{{JOBS}, triggers: [upstream: {{pipeline: {after}}}]}}"

    text = f"projects: {{p: {{pipelines: {{{pipeline('a', 'c')}, {pipeline('b', 'a')}, {pipeline('c', 'b')}}}}}}}"

    assert [message.partition(" (")[0] for message in faults(folder, text).values()] == [
        "builds of p/b would start each other for ever"
    ]


@pytest.mark.covers("yard.faults")
def test_a_file_that_is_not_there_too_large_or_no_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cannot read the yard file .*: No such file"):
        load_yard(tmp_path / "yard.yml", allow_local=False)
    (tmp_path / "yard.yml").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(TooLarge):
        load_yard(tmp_path / "yard.yml", allow_local=False)
    for text in (b"", b"\xff", b"projects: [", b"- a"):
        (tmp_path / "yard.yml").write_bytes(text)
        with pytest.raises(Invalid):
            load_yard(tmp_path / "yard.yml", allow_local=False)
