"""The operations manual explains every recipe, and every part that a service may wait for."""

import ast
import re
from pathlib import Path

import exchange.continuity
import jet.clocks
import jet.listings
import ledger.service
import ui.service

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SERVICES = ("exchange", "exposure", "jet", "ledger", "maker", "ui", "web")
NAMED = {
    exchange.continuity.PART,
    jet.clocks.PART,
    jet.listings.PART,
    jet.listings.TERMS_PART,
    *ledger.service.PARTS,
    *ui.service.PARTS,
}
"""Parts of health that are constants in the code."""


def literal_parts() -> set[str]:
    """Return the parts of health that the code names where it sets them."""
    found = set()
    for path in (path for service in SERVICES for path in (ROOT / "src" / service).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="waits"), args=[ast.Constant(value=str(part)), *_]):
                    found.add(part)
                case ast.Call(func=ast.Name(id="Health"), args=[_, *parts]):
                    found |= {part.value for part in parts if isinstance(part, ast.Constant)}
    return found


def test_every_part_that_a_service_may_wait_for_is_explained() -> None:
    table = OPERATIONS.partition("### ServiceNotReady")[2].partition("\n### ")[0]
    explained = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)
    }
    assert NAMED | literal_parts() <= explained


def test_every_recipe_is_explained() -> None:
    recipes = re.findall(r"^([a-z][a-z-]*)(?: [^:\n]+)?:$", (ROOT / "justfile").read_text(), re.MULTILINE)
    table = OPERATIONS.partition("## Recipes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    explained = {name.partition(" ")[0] for row in rows for name in re.findall(r"`(.+?)`", row)}
    assert set(recipes) - {"default"} == explained
