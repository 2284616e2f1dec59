"""What is asked of every architecture, and shown of any, names no family of architectures."""

import re
from pathlib import Path

import pytest

from assay.model.architecture import ARCHITECTURES
from assay.study.asked import DEFAULT_ARMS

SOURCE = Path(__file__).parents[2] / "src/assay"
WORDS = {"twin", "hybrid"}
"""Names that are words of English too."""
FAMILIES = re.compile(
    "|".join(
        rf"(?<![\w-]){re.escape(name)}" for name in {*ARCHITECTURES.names(), "groundthink", "rwkv", "mamba"} - WORDS
    )
)
GENERIC = sorted(
    path
    for pattern in ("layers/mixer.py", "model/*.py", "audit/**/*.py", "cli/*.py", "generation.py", "registry.py")
    for path in SOURCE.glob(pattern)
    if path.name != "examples.py"  # commands as users give them
)
SAID = {"cli/compare.py": " ".join(DEFAULT_ARMS), "cli/options.py": "bytes, bpe:N, gpt2, or a tokenizer.json."}
"""What help says of a default, and of a tokenizer."""


def named(text: str) -> list[str]:
    return FAMILIES.findall(text)


@pytest.mark.parametrize("path", GENERIC, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_generic_module_names_no_family(path: Path) -> None:
    said = SAID.get(str(path.relative_to(SOURCE)), "-")
    text = path.read_text(encoding="utf-8")
    assert said == "-" or said in text
    assert named(text.replace(said, "")) == []


def test_a_family_would_be_noticed() -> None:
    assert named('shared["groundthink.key_weight"]') == ["groundthink"]
    assert named("if name.startswith('rwkv'):") == ["rwkv"]
    assert named("a broken twin, a transformer, a gpt") == []
