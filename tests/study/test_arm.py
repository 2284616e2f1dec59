"""An ARM as written on the command line: what it means, what it may contain, and the one line that refuses it."""

import re

import pytest

from assay.errors import RequestError
from assay.study.arm import ArmConfig, parse_arm
from assay.study.asked import StudyConfig
from assay.study.older import VERSION


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("gpt1", {"label": "gpt1", "architecture": "gpt1"}),
        (
            "rwkv6:head_dim=32",
            {"label": "rwkv6:head_dim=32", "architecture": "rwkv6", "model": {"head_dim": 32}},
        ),
        (
            "slow=rwkv6:lr=1e-3",
            {"label": "slow", "architecture": "rwkv6", "training": {"learning_rate": 0.001}},
        ),
        (
            "x=gpt1:init=blinkdl,body=common,d_ff=1.5k,weight_decay=0,schedule=wsd,replicate=2,size=2M",
            {
                "label": "x",
                "architecture": "gpt1",
                "model": {"initialisation": "blinkdl", "body": "common", "d_ff": 1500},
                "training": {"weight_decay": 0, "schedule": "wsd"},
                "replicate": 2,
                "size": 2_000_000,
            },
        ),
        (
            "h=hybrid:pattern=[mamba2 x 5, attention],d_model=64",
            {
                "label": "h",
                "architecture": "hybrid",
                "model": {"pattern": ["mamba2 x 5", "attention"], "d_model": 64},
            },
        ),
        (
            "m=hybrid:pattern=MA,mixers={mamba2: {d_state: 16, head_dim: 16}}",
            {
                "label": "m",
                "architecture": "hybrid",
                "model": {"pattern": "MA", "mixers": {"mamba2": {"d_state": 16, "head_dim": 16}}},
            },
        ),
        ("transformer++", {"label": "transformer++", "architecture": "transformer++"}),
        (
            "t=transformer++:heads=tied",
            {"label": "t", "architecture": "transformer++", "model": {"heads": "tied"}},
        ),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, meant: dict[str, object]) -> None:
    assert parse_arm(text) == ArmConfig.parse(meant)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpt11", "unknown architecture 'gpt11': did you mean 'gpt1'?"),
        ("a=gpt11:lr=1", "a=gpt11:lr=1: unknown architecture 'gpt11': did you mean 'gpt1'?"),
        ("gpt1:head_dims=3", "gpt1:head_dims=3: head_dims: no dimension of gpt1 and no training setting of an arm"),
        ("rwkv6:head_dims=3", "did you mean 'head_dim'"),
        ("gpt1:tokens=5", "gpt1:tokens=5: tokens: no dimension of gpt1 and no training setting of an arm"),
        ("gpt1:vocab_size=5", "vocab_size: no dimension"),
        ("gpt1:lr", "gpt1:lr: lr: key=value is needed, as in head_dim=32"),
        ("gpt1:lr=", "key=value is needed"),
        ("gpt1:,lr=1", "key=value is needed"),
        ("gpt1:", "gpt1:: no arm; ARCH, ARCH:key=value,... or NAME=ARCH:key=value,... would do"),
        ("", "no arm"),
        ("=gpt1", "no arm"),
        ("a=", "no arm"),
        ("gpt1:lr=1e-3,learning_rate=2e-3", "learning_rate is given twice"),
        ("gpt1:replicate=-1", "replicate: -1 given, should be greater than or equal to 0"),
        ("gpt1:replicate=x", "replicate: 'x' given, should be a valid integer"),
        ("gpt1:d_ff=[1", "the value is not YAML"),
        ("a\tb=gpt1", "label: .* given, must be printable text"),
    ],
)
def test_what_is_wrong_is_one_line(text: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        StudyConfig.parse({"arms": [text]})
    assert "\n" not in str(caught.value)
    assert re.search(says if ".*" in says else re.escape(says), str(caught.value)), caught.value


def test_grids_multiply_what_an_arm_leaves_open() -> None:
    config = StudyConfig.parse(
        {
            "arms": ["gpt1", "slow=gpt1:lr=1e-4", "big=rwkv6:size=2M"],
            "sizes": [500_000, 1_000_000],
            "tuning": {"learning_rates": [0.001, 0.003]},
        }
    )
    points = {point.arm.label: (point.group, point.size) for point in config.points()}
    assert points == {
        "gpt1@0.5M@lr=0.001": ("gpt1", 500_000),
        "gpt1@0.5M@lr=0.003": ("gpt1", 500_000),
        "gpt1@1M@lr=0.001": ("gpt1", 1_000_000),
        "gpt1@1M@lr=0.003": ("gpt1", 1_000_000),
        "slow@0.5M": ("slow", 500_000),
        "slow@1M": ("slow", 1_000_000),
        "big@lr=0.001": ("big", 2_000_000),
        "big@lr=0.003": ("big", 2_000_000),
    }


def test_labels_are_told_apart() -> None:
    for arms in (["gpt1", "gpt1"], ["a=gpt1", "a=rwkv6"]):
        with pytest.raises(RequestError, match=r"arms: .* stands twice; .* again="):
            StudyConfig.parse({"arms": arms})


def test_version_one_called_arms_architectures() -> None:
    config = StudyConfig.parse({"version": 1, "architectures": ["gpt1", "mamba2"], "size": 10_000})
    assert [arm.label for arm in config.arms] == ["gpt1", "mamba2"]
    assert config.version == VERSION
