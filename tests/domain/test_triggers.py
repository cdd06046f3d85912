"""Parameters of manual triggers: checked by their types, with precise faults."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildyard.domain.errors import Invalid
from buildyard.domain.triggers import Parameter, ParameterType, check_parameters

pytestmark = pytest.mark.covers("triggers.parameters")

T = ParameterType
KNOWN = (
    Parameter(name="S", required=True, pattern="[a-z]+"),
    Parameter(name="L", type=T.TEXT),
    Parameter(name="N", type=T.INT, minimum=1, maximum=9, default="3"),
    Parameter(name="B", type=T.BOOL),
    Parameter(name="C", type=T.CHOICE, choices=("x", "y"), default="x"),
)


def faults(values: dict[str, object]) -> dict[str, str]:
    with pytest.raises(Invalid) as raised:
        check_parameters(KNOWN, values)
    return {fault.path: fault.message for fault in raised.value.faults}


def test_values_become_texts_with_defaults_and_without_what_was_left_out() -> None:
    assert check_parameters(KNOWN, {"S": "abc"}) == {"S": "abc", "N": "3", "C": "x"}
    given_all = {"S": "abc", "L": "a\nb; $c", "N": "+07", "B": True, "C": "y"}
    assert check_parameters(KNOWN, given_all) == {"S": "abc", "L": "a\nb; $c", "N": "7", "B": "true", "C": "y"}
    assert check_parameters(KNOWN, {"S": "abc", "N": 9, "B": "false", "L": ""})["B"] == "false"


def test_each_fault_says_what_is_wrong_with_which_parameter() -> None:
    assert faults({"X": 1, "L": 5, "N": 10, "B": "yes", "C": "z"}) == {
        "parameters.X": "there is no parameter 'X'",
        "parameters.S": "is required",
        "parameters.L": "must be a text",
        "parameters.N": "must be at most 9",
        "parameters.B": "must be true or false",
        "parameters.C": "must be one of x, y",
    }
    assert faults({"S": "Abc", "N": 0}) == {
        "parameters.S": "must match [a-z]+",
        "parameters.N": "must be at least 1",
    }
    assert faults({"S": "a\nb", "N": "1.5", "L": "\0"}) == {
        "parameters.S": "must be a single line",
        "parameters.N": "must be a whole number",
        "parameters.L": "must not contain the NUL character",
    }
    assert faults({"S": "a", "N": True})["parameters.N"] == "must be a whole number"
    assert faults({"S": "a" * 1001})["parameters.S"] == "must not be longer than 1000 characters"


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from("SLNBCX"), st.one_of(st.none(), st.text(), st.integers(), st.booleans())))
def test_whatever_comes_is_taken_as_texts_or_refused_as_invalid(values: dict[str, object]) -> None:
    try:
        checked = check_parameters(KNOWN, values)
    except Invalid as exc:
        assert exc.faults  # noqa: PT017 - either way is right
    else:
        assert all(isinstance(value, str) and "\0" not in value for value in checked.values())
