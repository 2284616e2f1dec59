"""docs/architectures.md has every registered architecture, with its citation, options and warnings, and no other."""

import dataclasses
import re
from pathlib import Path

import pytest

from assay.layers.basic import SwiGLU
from assay.model.architecture import ARCHITECTURES, Architecture, AttentionHeads, ModelConfig

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/architectures.md").read_text(encoding="utf-8")
SOURCE = re.compile(r"[A-Z]\w+(?: et al\.| and \w+)? \d{4}|document \d{3}")
SECTIONS = {
    name: " ".join(body.split())
    for heading, body in re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`([^`]+)`", heading)
}


def missing(architecture: Architecture, section: str | None) -> list[str]:
    """What its section does not say, in words, each under its number."""
    if section is None:
        return [f'1. no section: a heading "### `{architecture.name}`" under one of the families would do']
    found = []
    source = SOURCE.search(architecture.citation)
    if source is None:
        found.append(f'2. citation={architecture.citation!r} begins with no "Name et al. 2023" or "Name and Name 2023"')
    elif source[0].lower() not in section.lower():
        found.append(f"3. the section does not cite {source[0]}, as the architecture does")
    if "Held against: " not in section:
        found.append('4. no line "- Held against: ", which says what its numbers were compared with')
    options = architecture.config.model_fields.keys() - ModelConfig.model_fields.keys()
    unnamed = [f"`{option}`" for option in sorted(options) if f"`{option}`" not in section]
    if unnamed:
        found.append(f'5. its "- Options: " do not name {", ".join(unnamed)}')
    if "| departs in | as published | here |" not in section:
        found.append('9. no table "| departs in | as published | here |" of what is not as its authors have it')
    if architecture.letter is not None and f"Letter `{architecture.letter}`" not in section:
        found.append(f'6. "Letter `{architecture.letter}`" is not said')
    if ("Unsound" in section) != (architecture.unsound is not None):
        found.append('7. "Unsound" stands where an architecture is, and only there')
    if architecture.sound_twin is not None and f"`{architecture.sound_twin}` is its sound twin" not in section:
        found.append(f'8. "`{architecture.sound_twin}` is its sound twin" is not said')
    return found


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_an_architecture_has_a_section_with_all_that_belongs_there(name: str) -> None:
    found = missing(ARCHITECTURES.get(name), SECTIONS.get(name))
    if found:
        pytest.fail(f"docs/architectures.md, {name}: {'; '.join(found)}", pytrace=False)


def test_a_section_has_an_architecture() -> None:
    assert SECTIONS.keys() - set(ARCHITECTURES.names()) == set(), (
        "docs/architectures.md has sections of no architecture"
    )


def test_what_is_missing_is_said() -> None:
    """Of a section that says all, and of it without each part."""
    architecture = Architecture(
        name="retnet",
        summary="",
        citation="Sun et al. 2023, Retentive Network",
        mixer=lambda config, _: SwiGLU(config.d_model, 8),
        config=AttentionHeads,
        letter="Q",
        unsound="it peeks",
        sound_twin="gpt1",
    )
    section = (
        "Retention. Letter `Q`. Sun et al. 2023. Unsound: it peeks. `gpt1` is its sound twin. - Held against: a loop. "
        "- Options: `n_heads`. | departs in | as published | here | |---|---|---| | nothing | | |"
    )
    assert missing(architecture, section) == []
    assert missing(architecture, None)[0].startswith('1. no section: a heading "### `retnet`"')
    parts = ["Sun et al. 2023", "Held against: ", "`n_heads`", "Letter `Q`", "Unsound", "`gpt1` is its sound twin"]
    for number, part in enumerate(parts, 3):
        (said,) = missing(architecture, section.replace(part, ""))
        assert said.startswith(f"{number}. ")
    (said,) = missing(architecture, section.replace("departs in", ""))
    assert said.startswith("9. ")
    (said,) = missing(dataclasses.replace(architecture, citation="mine"), section)
    assert said.startswith("2. ")


def test_the_files_it_points_to_are_there() -> None:
    paths = re.findall(r"`((?:tests|experiments)/[^`]+)`", TEXT)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
