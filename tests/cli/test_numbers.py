"""Numbers mean the same as a flag, in a file and behind --set; what YAML misreads is refused with its line."""

from pathlib import Path

import pytest

from assay.cli.numbers import parse_looks, parse_seeds
from assay.cli.options import StudyOptions
from assay.errors import RequestError
from assay.parsing import parse_number
from assay.study.asked import StudyConfig
from assay.yaml_text import parse_value

SAME = {
    "size": ("size: 1.5M", "size=1.5M", StudyOptions(size="1.5M")),
    "tokens": (
        "training: {tokens: 2k, batch_tokens: 1k, context: 100}",
        "",
        StudyOptions(tokens="2k", batch_tokens="1000", context="100"),
    ),
    "quoted": ("training: {tokens: '2k'}", "tokens='2k'", StudyOptions(tokens="2k")),
    "bytes": ("data: {max_bytes: 3M}", "max_bytes=3M", StudyOptions(max_bytes="3M")),
    "rate": ("training: {learning_rate: 1e-3}", "learning_rate=1e-3", StudyOptions(lr="0.001")),
    "rates": ("training: {learning_rate: 1e-3..1e-2}", "learning_rate=1e-3..1e-2", StudyOptions(lr="1e-3..1e-2")),
    "grid": ("tuning: {learning_rates: 1e-3..1e-2}", "learning_rates=1e-3..1e-2", StudyOptions(lr="1e-3..1e-2")),
}


def test_the_optimizer_is_a_flag_and_a_key() -> None:
    flagged = study(StudyOptions(optimizer="muon"))
    assert flagged.training.optimizer == "muon" != study(StudyOptions()).training.optimizer
    assert study(StudyOptions(set=["training.optimizer=muon"])) == flagged
    with pytest.raises(RequestError, match="--optimizer"):
        study(StudyOptions(optimizer="muno"))


def study(options: StudyOptions) -> StudyConfig:
    return options.study(["gpt1"], None)


@pytest.mark.parametrize("case", SAME)
def test_a_number_means_the_same_wherever_it_is_given(case: str, tmp_path: Path) -> None:
    content, assignment, flags = SAME[case]
    (tmp_path / "c.yaml").write_text(content + "\n")
    assert study(StudyOptions(config=tmp_path / "c.yaml")) == study(flags) != study(StudyOptions())
    assert not assignment or study(StudyOptions(set=[assignment])) == study(flags)


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ("seeds: 3", "seeds", [0, 1, 2]),
        ("seeds: 0,5,7", "seeds", [0, 5, 7]),
        ("seeds: [0, 5, 7]", "seeds", [0, 5, 7]),
        ("sizes: 0.5M,1M", "sizes", [500_000, 1_000_000]),
        ("sizes: [0.5M, 1M]", "sizes", [500_000, 1_000_000]),
        ("sizes: 1M", "sizes", [1_000_000]),
    ],
)
def test_lists_are_read_as_their_flags_read_them(content: str, key: str, value: list[int], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(content + "\n")
    assert getattr(study(StudyOptions(config=tmp_path / "c.yaml")), key) == value
    assert getattr(study(StudyOptions(set=[content.replace(": ", "=", 1)])), key) == value


def test_looks_in_a_file_bring_their_seeds(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rule:\n  looks: 5,8,12\n")
    for options in (StudyOptions(config=tmp_path / "c.yaml"), StudyOptions(set=["looks=5,8,12"])):
        config = study(options)
        assert (config.rule.looks, config.seeds) == ([5, 8, 12], list(range(12)))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2.3M", 2_300_000),
        ("1.001k", 1001),
        ("0.1", 0.1),
        ("1e3", 1000),
        ("9007199254740993", 2**53 + 1),
        ("9223372036854775807", 2**63 - 1),
        ("-5", -5),
        ("0", 0),
        (" 12 ", 12),
    ],
)
def test_numbers_are_exact(text: str, number: float) -> None:
    got = parse_number(text)
    assert got == number
    assert type(got) is type(number)


@pytest.mark.parametrize(
    "text",
    [
        "²",
        "\uff11\uff12",
        "٣",
        "9" * 400,
        "9" * 30,
        "1e400",
        "1e-400",
        "1_000",
        "017",
        "0x10",
        "0o17",
        "12:30",
        "",
        "k",
        "1kk",
        "nan",
    ],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "Off",
        "yes",
        "NO",
        "1_000",
        "0o17",
        "017",
        "0x1F",
        "0b11",
        "12:30",
        "1:30:00.5",
        "2024-01-31",
        "1_0.5",
        "9" * 400,
    ],
)
def test_what_yaml_misreads_is_refused_and_kept_in_quotes(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would do"):
        parse_value(text)
    assert parse_value(f"'{text}'") == text
    path = tmp_path / "c.yaml"
    path.write_text(f"size: 1M\ndata:\n  text_field: {text}\n")
    with pytest.raises(RequestError, match=r"^--config .*c\.yaml: line 3: [^\n]*$"):
        study(StudyOptions(config=path))


@pytest.mark.parametrize("text", ["a #b", "1 # one", "[1, 2] #"])
def test_nothing_behind_set_is_left_out(text: str) -> None:
    with pytest.raises(ValueError, match="what begins with # is left out"):
        parse_value(text)


@pytest.mark.parametrize("text", ["!!int abc", "!!timestamp x", "!!binary aa", "!mine 3", "&a [*a]", "\U0001f600: ["])
def test_tags_and_loops_are_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_value(text)


@pytest.mark.parametrize("label", ["1M", "on", "017", "1_000", "12:30", "2024-01-31", "0o17", "1e-3", "null", "true"])
def test_a_name_that_looks_like_a_number_comes_back(label: str, tmp_path: Path) -> None:
    config = StudyConfig.parse({"arms": [{"label": label, "architecture": "gpt1"}]})
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert StudyOptions(config=tmp_path / "c.yaml").study(None, None).arms[0].label == label


def test_seeds_and_looks() -> None:
    assert parse_seeds("--seeds", "3") == [0, 1, 2]
    assert parse_seeds("--seeds", "5,") == [5]
    assert parse_looks("--looks", "5, 8,12") == [5, 8, 12]
    for text in (",", "a,b", "1.5", "-1,2", "0"):
        with pytest.raises(RequestError, match="--seeds"):
            parse_seeds("--seeds", text)
