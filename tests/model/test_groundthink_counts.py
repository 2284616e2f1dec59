"""Parameter counts of the five configurations of document 001, the research note on GroundThink, as it printed them."""

import json

import pytest

from assay.cli.main import main
from assay.model.accounting import count_parameters
from assay.model.architecture import ARCHITECTURES
from assay.model.presets.groundthink import HybridConfig
from assay.model.sizing import build_on_meta

DOCUMENT_001 = [
    ("G", 128, 2, 64, 50257, 6_638_788),
    ("GG", 256, 4, 64, 50257, 14_378_896),
    ("GGGG", 512, 8, 64, 50257, 37_697_344),
    ("GGGGGS", 256, 4, 64, 50257, 17_583_212),
    ("GSGS", 128, 4, 32, 32000, 4_993_368),
]
FIELDS = ("pattern", "d_model", "n_heads", "head_dim", "vocab_size")


@pytest.mark.parametrize("configuration", DOCUMENT_001, ids=lambda c: c[0])
def test_the_replica_has_the_documents_parameters(configuration: tuple[str | int, ...]) -> None:
    *values, expected = configuration
    architecture = ARCHITECTURES.get("groundthink-v7")
    config = architecture.config.parse({"heads": "tied", **dict(zip(FIELDS, values, strict=True))})
    assert count_parameters(build_on_meta(architecture, config)).total == expected
    assert isinstance(config, HybridConfig)
    assert config.n_layers == len(config.pattern)


def test_the_published_dimensions_are_the_defaults() -> None:
    architecture = ARCHITECTURES.get("groundthink-v7")
    published = architecture.config.parse({"heads": "published"})
    assert count_parameters(build_on_meta(architecture, published)).total == 17_583_212


def test_describe_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    settings = [
        part for field, value in zip(FIELDS, DOCUMENT_001[4], strict=False) for part in ("--set", f"{field}={value}")
    ]
    assert main(["describe", "groundthink-v7", *settings, "--set", "heads=published", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"]["total"] == 4_993_368
    assert facts["dimensions"]["n_layers"] == 4


@pytest.mark.parametrize("name", ["groundthink", "groundthink-v7"])
@pytest.mark.parametrize(
    ("setting", "says"),
    [("n_layers=5", "'GGGGGS' has 6"), ("pattern=SG", "start with G"), ("pattern=GXS", "letters G and S")],
)
def test_a_wrong_pattern_is_one_line(name: str, setting: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", name, "--set", setting]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 1
