"""Mail about jobs has the layout that filters and habits of builds.sr.ht are made for."""

from dataclasses import replace

import pytest

from buildyard.apis.sourcehut.letters import JobLine, common_tags, duration, group_mail, group_status, job_mail

JOB = JobLine(
    id=7,
    status="failed",
    tags="hello/alpine",
    note="Greater and better\n\nand longer",
    image="alpine/edge",
    url="https://yard.example.org/~bob/job/7",
    seconds=72,
    tasks=(("build", "success"), ("test", "failed"), ("_hidden", "pending"), ("deploy", "pending")),
)

pytestmark = pytest.mark.covers("triggers.mail")


def test_a_job_says_how_it_ended_how_long_it_took_where_it_is_and_how_its_tasks_did() -> None:
    mail = job_mail(JOB)

    assert mail.subject == "[hello/alpine] build failed"
    assert mail.body.splitlines() == [
        "hello/alpine #7: FAILED in 1m12s",
        "",
        "Greater and better",
        "",
        "and longer",
        "",
        "https://yard.example.org/~bob/job/7",
        "",
        "✓ build ✗ test - deploy",
    ]


def test_a_job_without_tags_and_note_says_less() -> None:
    mail = job_mail(replace(JOB, tags="", note="", tasks=()))

    assert mail.subject == "[builds.sr.ht] build failed"
    assert mail.body == "Job #7: FAILED in 1m12s\n\nhttps://yard.example.org/~bob/job/7"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (-3, "0s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m0s"), (90061, "25h1m1s")]
)
def test_times_are_as_short_as_they_can_be(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_group_lists_its_jobs_in_columns_below_what_they_have_in_common() -> None:
    jobs = [
        replace(JOB, status="success", tags="hello/alpine"),
        replace(JOB, id=8, status="timeout", tags="hello/debian/arm"),
        replace(JOB, id=9, status="success", tags=""),
    ]
    mail = group_mail(jobs, note="All of them", seconds=3)

    assert mail.subject == "[hello] build timeout"
    assert mail.body.splitlines() == [
        "hello: TIMEOUT in 3s",
        "",
        "All of them",
        "",
        "✓ #7 SUCCESS hello/alpine     https://yard.example.org/~bob/job/7",
        "✗ #8 TIMEOUT hello/debian/arm https://yard.example.org/~bob/job/7",
        "✓ #9 SUCCESS alpine/edge      https://yard.example.org/~bob/job/7",
    ]


def test_a_group_succeeds_only_with_all_of_its_jobs() -> None:
    good = replace(JOB, status="success")
    assert group_status([good, good]) == "success"
    assert group_status([JOB, good, replace(JOB, status="cancelled"), good]) == "cancelled"
    assert common_tags([replace(JOB, tags="a"), replace(JOB, tags="b")]) == ""
    assert group_mail([replace(JOB, tags="", status="success")], note="", seconds=0).body.startswith("Job group: SUCC")
