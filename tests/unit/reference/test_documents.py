"""The documents people write: each description in them is valid, each link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from controller.cli import main

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text())


def prose(text: str) -> str:
    """The text without its code: a pattern in it looks like a link."""
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchor(heading: str) -> str:
    """As GitHub makes it from a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def documents(block: str) -> dict[tuple[str, str], Any]:
    """The objects of a block by kind and name; parts of objects are left out."""
    loaded: list[dict[str, Any]] = [each for each in yaml.safe_load_all(block) if isinstance(each, dict)]
    return {(each["kind"], each["metadata"]["name"]): each for each in loaded if "kind" in each and "metadata" in each}


def whole(infrastructure: str, page: str) -> str:
    """The block, and of the page's other blocks the documents that it lacks."""
    found: dict[tuple[str, str], Any] = {}
    for block in _BLOCK.findall(page):
        found |= {key: each for key, each in documents(block).items() if key[0] != "Infrastructure"}
    return yaml.safe_dump_all((found | documents(infrastructure)).values())


DESCRIPTIONS = [
    pytest.param(page, block, id=f"{name(page)} {number}")
    for page in PAGES
    for number, block in enumerate(blocks(page))
    if "kind: Infrastructure" in block
]


@pytest.mark.parametrize(("page", "block"), DESCRIPTIONS)
def test_every_description_is_valid(page: Path, block: str) -> None:
    done = CliRunner().invoke(main.cli, ["validate", "-f", "-"], input=whole(block, page.read_text()))
    assert done.exit_code == 0, done.output


def test_there_are_descriptions_to_check() -> None:
    assert len(DESCRIPTIONS) >= 3


@pytest.mark.parametrize("page", [pytest.param(page, id=name(page)) for page in PAGES])
def test_every_block_is_yaml(page: Path) -> None:
    for block in blocks(page):
        assert list(yaml.safe_load_all(block))


@pytest.mark.parametrize("page", [pytest.param(page, id=name(page)) for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, part = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if part:
            assert part in {anchor(each) for each in _HEADING.findall(target.read_text())}, link
