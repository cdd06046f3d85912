"""Whoever guesses passwords must wait, longer each time, but never long."""

import pytest

from buildyard.domain.errors import LimitReached
from buildyard.engine.brake import MOST_KEYS, Brake


class Seconds:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def wait_of(brake: Brake, *keys: str) -> int:
    """In how many seconds the keys may try again."""
    try:
        brake.check(*keys)
    except LimitReached as exc:
        return exc.retry_after
    return 0


@pytest.fixture
def clock() -> Seconds:
    """The brake's clock."""
    return Seconds()


def fail_and_wait(brake: Brake, clock: Seconds, key: str) -> int:
    """Fail once more as soon as that is allowed; how long one must wait then."""
    brake.fail(key)
    wait = wait_of(brake, key)
    clock.now += wait
    return wait


def test_the_fifth_failure_costs_a_second_and_each_further_one_twice_the_last_up_to_a_minute(clock: Seconds) -> None:
    brake = Brake(clock)

    waits = [fail_and_wait(brake, clock, "bob") for _ in range(13)]

    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_failures_far_apart_cost_nothing(clock: Seconds) -> None:
    brake = Brake(clock)
    for _ in range(20):
        brake.fail("bob")
        clock.now += 61

    assert wait_of(brake, "bob") == 0


def test_a_success_ends_the_count_of_its_key_only(clock: Seconds) -> None:
    brake = Brake(clock)
    for _ in range(4):
        brake.fail("bob", "here")

    brake.succeed("bob")
    brake.fail("bob", "here")

    assert (wait_of(brake, "bob"), wait_of(brake, "here"), wait_of(brake, "bob", "here")) == (0, 1, 1)


def test_only_so_many_keys_are_remembered_the_newest_ones(clock: Seconds) -> None:
    brake = Brake(clock)
    for _ in range(5):
        brake.fail("first")
    for number in range(MOST_KEYS - 1):
        brake.fail(f"user{number}")
    assert wait_of(brake, "first") == 1

    brake.fail("last")

    assert wait_of(brake, "first") == 0
