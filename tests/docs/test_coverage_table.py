"""The tables of requirements and operations say which tests show them, and notice what is wrong."""

from pathlib import Path

import coverage_table
import pytest

pytestmark = pytest.mark.covers("repo.docs.requirements", "repo.docs.api_pages")

TESTS = """
import pytest

@pytest.mark.covers("thing.works", "shop: GET /apples")
async def test_a_thing_works() -> None: ...

@pytest.mark.parametrize("x", [1])
@pytest.mark.covers("thing.works")
def test_it_works_again(x: int) -> None: ...

class TestMore:
    pytestmark = [pytest.mark.slow, pytest.mark.covers("thing.lasts")]
"""


REQUIREMENTS = """id\tsection\trequirement
thing.works\tThings\tA thing works
thing.lasts\tThings\tA thing | lasts
thing.sings\tSongs\tIt sings
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs/apis").mkdir(parents=True)
    (tmp_path / "tests/deep").mkdir(parents=True)
    (tmp_path / "docs/requirements.tsv").write_text(REQUIREMENTS)
    (tmp_path / "docs/apis/shop.operations.tsv").write_text(
        "operation\tstate\tnote\nGET /apples\tdone\t\nGET /pears\tmissing\tlater\n"
    )
    (tmp_path / "tests/deep/test_things.py").write_text(TESTS)
    return tmp_path


def test_the_page_of_requirements_links_each_to_its_tests(root: Path) -> None:
    page = coverage_table.requirements_page(root)

    assert "2 of 3 requirements have a test." in page
    link = "(../tests/deep/test_things.py)"
    assert f"| thing.works | A thing works | [test_a_thing_works]{link}<br>[test_it_works_again]{link} |" in page
    assert f"| thing.lasts | A thing \\| lasts | [TestMore]{link} |" in page
    assert "\n## Songs\n\n| Id | Requirement | Tests |\n|---|---|---|\n| thing.sings | It sings | – |\n" in page


def test_the_table_of_operations_counts_them_by_state(root: Path) -> None:
    table = coverage_table.operations_table(root, "shop")

    assert table.startswith("2 operations: 1 done, 0 partial, 1 missing.")
    assert "| `GET /apples` | done | [test_a_thing_works](../../tests/deep/test_things.py) |  |" in table
    assert "| `GET /pears` | missing | – | later |" in table


def test_nothing_is_wrong_with_a_true_table(root: Path) -> None:
    assert coverage_table.faults(root, strict=False) == []
    assert coverage_table.faults(root, strict=True) == ["no test covers 'thing.sings'"]


def test_an_operation_called_done_needs_a_test(root: Path) -> None:
    (root / "docs/apis/shop.operations.tsv").write_text(
        "operation\tstate\tnote\nGET /apples\tdone\t\nGET /pears\tdone\t\n"
    )

    assert coverage_table.faults(root, strict=False) == ["'shop: GET /pears' is called done but no test covers it"]


def test_a_marker_that_names_nothing_is_noticed(root: Path) -> None:
    (root / "tests/test_wrong.py").write_text('import pytest\n\npytestmark = pytest.mark.covers("thing.wroks")\n')

    assert coverage_table.faults(root, strict=False) == ["tests/test_wrong.py: pytestmark covers unknown 'thing.wroks'"]


def test_a_requirement_listed_twice_or_with_too_few_columns_is_noticed(root: Path) -> None:
    path = root / "docs/requirements.tsv"
    path.write_text(path.read_text() + "thing.works\tThings\tAgain\n")
    assert coverage_table.faults(root, strict=False) == ["listed twice: 'thing.works'"]

    path.write_text("id\tsection\trequirement\nthing.works\tThings\n")
    with pytest.raises(SystemExit, match=r"requirements\.tsv:2: wrong number of columns"):
        coverage_table.requirements(root)
