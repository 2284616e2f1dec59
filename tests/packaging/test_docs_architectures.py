"""docs/architectures.md has every registered architecture, with its citation, options and warnings, and no other."""

import re
from pathlib import Path

import pytest

from assay.model.architecture import ARCHITECTURES, ModelConfig

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/architectures.md").read_text(encoding="utf-8")
SECTIONS = {
    name: " ".join(body.split())
    for heading, body in re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`([^`]+)`", heading)
}


def test_it_lists_what_is_registered_and_nothing_else() -> None:
    assert sorted(SECTIONS) == ARCHITECTURES.names()


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_a_section_has_citation_evidence_options_letter_and_warning(name: str) -> None:
    architecture, section = ARCHITECTURES.get(name), SECTIONS[name]
    source = re.search(r"[A-Z]\w+ (?:et al\.|and \w+) \d{4}|document \d{3}", architecture.citation)
    assert source is not None
    assert source[0].lower() in section.lower()
    assert "Held against: " in section
    options = architecture.config.model_fields.keys() - ModelConfig.model_fields.keys()
    assert [option for option in sorted(options) if f"`{option}`" not in section] == []
    assert architecture.letter is None or f"Letter `{architecture.letter}`" in section
    assert ("Unsound" in section) == (architecture.unsound is not None)
    assert architecture.sound_twin is None or f"`{architecture.sound_twin}` is its sound twin" in section


def test_the_files_it_points_to_are_there() -> None:
    paths = re.findall(r"`((?:tests|experiments)/[^`]+)`", TEXT)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
