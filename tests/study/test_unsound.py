"""A study with an arm that cheats: it is audited, trained, shown, and not ranked."""

from pathlib import Path

import pytest

from assay.records import StudyRecord
from assay.study.asked import StudyConfig
from assay.study.compare import compare
from study.made_up import write_corpus


def study(folder: Path, *arms: str) -> StudyRecord:
    config = StudyConfig.parse(
        {
            "arms": list(arms),
            "seeds": [0],
            "size": 40_000,
            "model": {"groundthink-v7": {"pattern": "GS"}},
            "data": {"corpus": f"text:{write_corpus(folder / 'corpus')}", "tokenizer": "bytes"},
            "training": {"tokens": 1024, "batch_tokens": 256, "context": 32, "validation_tokens": 512},
            "evaluation": {"test_tokens": 512},
            "execution": {"threads": 1},
        }
    )
    return compare(config, folder / "out")


def test_what_cheats_is_shown_and_not_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.study.compare.measure_floors", lambda _: {})  # so few steps beat none
    record = study(tmp_path, "gpt1", "groundthink-v7")
    assert record.ranked
    sound, cheat = record.arms
    assert (sound.architecture, sound.rank, sound.unsound) == ("gpt1", 1, None), "1. the sound arm is ranked"
    assert (cheat.architecture, cheat.rank) == ("groundthink-v7", None), "2. the other is not"
    assert cheat.test is not None, "3. its score is shown"
    assert cheat.unsound is not None
    assert "blocks." in cheat.unsound, "4. the record says where it leaks"
    assert record.pairs == [], "5. no pair is formed with it"
    assert [(a.label, a.moment, a.sound) for a in record.audits] == [
        ("gpt1", "before training", True),
        ("groundthink-v7", "before training", False),
        ("gpt1", "after training", True),
        ("groundthink-v7", "after training", False),
    ], "6. all audits are recorded"
    assert any(line.startswith("UNSOUND: groundthink-v7 is not ranked") for line in record.headline), "7. the headline"
    assert "Audited before and after training: gpt1 sound." in record.headline, "7. the headline"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Does any of them cheat?" in page, "8. the page"
    data = (tmp_path / "out" / "report" / "test.csv").read_text(encoding="utf-8")
    assert "groundthink-v7" not in data, "9. the figure of test scores leaves it out"


def test_alone_it_leaves_nothing_to_rank(tmp_path: Path) -> None:
    record = study(tmp_path, "groundthink-v7")
    assert not record.ranked
    assert record.not_ranked_because == "no arm is sound"
