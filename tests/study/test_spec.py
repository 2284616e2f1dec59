"""Digests: pinned, moved by what decides numbers and by nothing else, and unmoved by a new key with a default."""

import json
from pathlib import Path
from typing import Any

import pytest

from assay.config import Config
from assay.model.architecture import ARCHITECTURES
from assay.records import RunRecord
from assay.study.asked import StudyConfig
from assay.study.spec import Spec, folder_name
from assay.training.config import TrainingConfig

PINNED = json.loads((Path(__file__).with_name("pinned_digests.json")).read_text(encoding="utf-8"))
"""Specs with every value written out, and the digests that they have had since schema version 4."""


def spec(**changes: Any) -> Spec:
    architecture = ARCHITECTURES.get(changes.get("architecture", "gpt1"))
    values = {
        "architecture": architecture.name,
        "model": architecture.config.parse(architecture.tiny).model_dump(mode="json"),
        "data": {},
        "corpus_digest": "c" * 64,
        "training": {},
        "evaluation": {},
        "seed": 0,
    }
    return Spec.parse({**values, **changes})


def digest(of: Spec) -> str:
    return of.digest_against(ARCHITECTURES.get(of.architecture).config)


@pytest.mark.parametrize("name", list(PINNED["specs"]))
def test_ten_digests_are_fixed(name: str) -> None:
    """Also a changed default shows here: the value written out differs from it then, and the digest moves."""
    assert len(PINNED["specs"]) == 10
    pinned = PINNED["specs"][name]
    assert digest(Spec.parse(pinned["spec"])) == pinned["digest"]


@pytest.mark.parametrize("name", list(PINNED["studies"]))
def test_folders_of_studies_are_fixed(name: str) -> None:
    pinned = PINNED["studies"][name]
    assert StudyConfig.parse(pinned["asked"]).identity() == pinned["identity"]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"replicate": 1},
        {"architecture": "rwkv6"},
        {"corpus_digest": "d" * 64},
        {"training": {"learning_rate": 0.001}},
        {"training": {"tokens": 1}},
        {"evaluation": {"split": "validation"}},
        {"evaluation": {"test_tokens": None}},
        {"plugins": {"it.py": "a" * 64}},
        {"plugins": {"it.py": "b" * 64}},
    ],
)
def test_what_decides_numbers_moves_the_digest(changes: dict[str, Any]) -> None:
    others = [spec(), *(spec(**more) for more in ({"seed": 2}, {"plugins": {"it.py": "0" * 64}}))]
    assert digest(spec(**changes)) not in map(digest, others)


def test_a_value_that_is_the_default_is_not_told_from_it() -> None:
    assert digest(spec(training={"learning_rate": TrainingConfig().learning_rate, "tokens": 327_680})) == digest(spec())


def test_where_the_text_lay_moves_nothing() -> None:
    assert digest(spec(data={"corpus": "text:here.txt"})) == digest(spec(data={"corpus": "text:/there/it.txt"}))


def test_a_new_key_with_a_default_moves_nothing() -> None:
    class Later(TrainingConfig):
        momentum_of_tomorrow: float = 0.5

    class LaterSpec(Spec):
        training: Later
        key_of_tomorrow: list[int] = [1]

    values = spec(training={"learning_rate": 0.001}).model_dump()
    today, later = Spec.parse(values), LaterSpec.parse(values)
    assert digest(later) == digest(today)
    changed = LaterSpec.parse({**values, "training": {**values["training"], "momentum_of_tomorrow": 0.6}})
    assert digest(changed) != digest(today)


def test_departures_are_what_differs_from_the_defaults() -> None:
    class Inner(Config):
        a: int = 1
        b: list[int] = [1, 2]

    class Outer(Config):
        name: str
        inner: Inner = Inner()
        none: int | None = None

    assert Outer(name="x").departures() == {"name": "x"}
    assert Outer(name="x", inner=Inner(b=[1])).departures() == {"name": "x", "inner": {"b": [1]}}
    assert Outer(name="x", none=0).departures() == {"name": "x", "none": 0}


def test_the_default_folder_knows_protocol_and_arms_not_seeds() -> None:
    one = StudyConfig.parse({"arms": ["gpt1", "slow=gpt1:lr=1e-4"]})
    same = [
        {"arms": ["slow=gpt1:learning_rate=0.0001", "gpt1"]},
        {"arms": ["gpt1", "slow=gpt1:lr=1e-4"], "seeds": [5]},
        {"arms": ["gpt1", "slow=gpt1:lr=1e-4"], "measurements": []},
    ]
    other = [
        {"arms": ["gpt1"]},
        {"arms": ["gpt1", "slow=gpt1:lr=1e-5"]},
        {"arms": ["gpt1", "slow=gpt1:lr=1e-4"], "training": {"tokens": 5}},
        {"arms": ["gpt1", "slow=gpt1:lr=1e-4"], "rule": {"level": 0.9}},
        {"arms": ["gpt1", "slow=gpt1:lr=1e-4"], "plugins": [{"path": "it.py", "sha256": "ab"}]},
    ]
    assert {StudyConfig.parse(values).identity() for values in same} == {one.identity()}
    assert len({StudyConfig.parse(values).identity() for values in other} | {one.identity()}) == 1 + len(other)


def test_a_folder_is_a_slug_of_label_seed_and_digest() -> None:
    assert folder_name("gpt1", 3, "0123456789") == "gpt1-seed3-01234567"
    assert folder_name("../../etc/passwd x", 0, "ab" * 8) == "etc-passwd-x-seed0-abababab"
    assert folder_name("ü/ü", 0, "ab" * 8) == "arm-seed0-abababab"
    assert len(folder_name("x" * 500, 0, "ab" * 8)) < 80


def test_a_record_of_version_one_says_no_spec() -> None:
    path = Path(__file__).parents[1] / "fixtures" / "schema1" / "run" / "record.json"
    record = RunRecord.read(path)
    assert (record.label, record.spec, record.spec_digest) == ("mamba2", {}, "")
