"""The numbers on the page "What is promised, and how it is tested" are those of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract import test_ec2_against_moto as moto
from tests.crash import sites, test_sites
from tests.crash.scenarios import SCENARIOS
from tests.crash.seldom import SELDOM
from tests.e2e import test_kill_ec2 as kills

_PAGE = (Path(__file__).parents[2] / "docs" / "promises.md").read_text()
_WORDS = {8: "eight"}


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(f", {len(sites.found())}, are found in its source", id="places that call"),
        pytest.param(f"{len(test_sites.UNREACHED)} stand in a table of what is not reached", id="places that no scenario reaches"),
        pytest.param(f"in {_WORDS[len(SCENARIOS)]} scenarios", id="scenarios"),
        pytest.param(f"{_WORDS[len(SELDOM)].capitalize()} more scenarios", id="seldom scenarios"),
        pytest.param(f"The {len(kills.changes(sites.found()))} places in the source that change something", id="places that change"),
        pytest.param(f"{len(kills.UNREACHED)} stand in a table, each with its reason", id="places where nothing is killed"),
        pytest.param(f"({moto.NUMBER} rows)", id="rows against moto"),
    ],
)
def test_the_page_has_the_numbers_of_the_tests(said: str) -> None:
    assert said in _PAGE
