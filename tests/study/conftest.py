"""A small corpus and a study that trains in about a second."""

from pathlib import Path
from typing import Any

import pytest

from assay.study.arm import parse_arm
from assay.study.asked import StudyConfig
from study.made_up import Make, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def make(corpus: Path) -> Make:
    """A study configuration of arms as they are written; keyword arguments are laid over it, section by section."""

    def build(arms: tuple[str, ...] = ("gpt1",), seeds: tuple[int, ...] = (0,), **sections: Any) -> StudyConfig:
        dimensions = {
            "gpt1": {"n_heads": 2},
            "rwkv6": {"head_dim": 16, "shift_rank": 4, "decay_rank": 8},
            "mamba2": {"head_dim": 16, "d_state": 16},
        }
        own = {arm.label: dimensions[arm.architecture] for arm in map(parse_arm, arms)}
        values: dict[str, Any] = {
            "arms": list(arms),
            "seeds": list(seeds),
            "model": {
                "d_model": 32,
                "n_layers": 2,
                **own,
            },
            "data": {"corpus": f"text:{corpus}", "tokenizer": "bytes"},
            "training": {"tokens": 12 * 256, "batch_tokens": 256, "context": 32, "validation_tokens": 512},
            "evaluation": {"test_tokens": 1024},
            "execution": {"threads": 1},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
        return StudyConfig.parse(values)

    return build
