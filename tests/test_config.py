"""Configurations: nothing is swallowed, every refusal is one line that names the key and what would do."""

import math
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config import Config, leaf_paths, merge, nested, parse_assignment, read_yaml, resolve_key
from assay.errors import RequestError


class Schedule(Config):
    name: str = "cosine"
    warmup: int = pydantic.Field(default=10, ge=0)


class Training(Config):
    learning_rate: float = pydantic.Field(default=1e-3, gt=0)
    schedule: Schedule = Schedule()


class Experiment(Config):
    corpus: str = "stdlib"
    name: str | None = None
    sizes: dict[str, int] = pydantic.Field(default={})
    training: Training = Training()
    fine_tuning: Training | None = None

    @pydantic.model_validator(mode="after")
    def _corpus_has_a_name(self) -> "Experiment":
        if not self.corpus:
            raise ValueError("--corpus: a name is needed")
        return self


PATHS = leaf_paths(Experiment)
KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
MAPPINGS = st.dictionaries(KEYS, TREES, max_size=3)


def refusal(values: dict[str, Any], options: dict[str, str] | None = None) -> str:
    """The one line with which Experiment refuses `values`."""
    with pytest.raises(RequestError) as caught:
        Experiment.parse(values, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def from_assignments(*texts: str) -> Experiment:
    values: dict[str, Any] = {}
    for text in texts:
        key, value = parse_assignment(text)
        values = merge(values, nested(resolve_key(key, PATHS), value))
    return Experiment.parse(values)


def test_unknown_key_names_the_nearest() -> None:
    assert refusal({"corpsu": "stdlib"}).startswith("unknown key 'corpsu': did you mean 'corpus'?")
    line = refusal({"training": {"schedule": {"warmupp": 1}}})
    assert line.startswith("unknown key 'training.schedule.warmupp': did you mean 'training.schedule.warmup'?")


def test_wrong_value_says_option_key_given_and_what_would_do() -> None:
    line = refusal({"training": {"learning_rate": -1.0}}, {"training.learning_rate": "--lr"})
    assert line == "--lr (training.learning_rate): -1.0 given, should be greater than 0"
    assert refusal({"training": {"schedule": {"warmup": "many"}}}).startswith(
        "training.schedule.warmup: 'many' given, should be a valid integer"
    )
    assert refusal({"corpus": "two\nlines" * 3, "training": 3}).startswith("training: 3 given, ")
    assert refusal({"corpus": ""}) == "--corpus: a name is needed"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", ".nan", "inf"])
def test_numbers_are_finite(value: object) -> None:
    assert "training.learning_rate" in refusal({"training": {"learning_rate": value}})


@pytest.mark.parametrize(
    "text", ["learning_rate=nan", "learning_rate=.nan", "learning_rate=inf", "learning_rate=-.inf"]
)
def test_assignments_are_finite(text: str) -> None:
    with pytest.raises(RequestError, match="learning_rate"):
        from_assignments(text)


def test_configuration_is_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Experiment().corpus = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("lr=1e-3", "lr", 1e-3),
        ("lr=1E5", "lr", 1e5),
        ("lr=-2.5e+3", "lr", -2500.0),
        ("training.lr = 0.5", "training.lr", 0.5),
        ("n=12", "n", 12),
        ("flag=true", "flag", True),
        ("name=null", "name", None),
        ("name=text:a=b", "name", "text:a=b"),
        ("sizes=[1, 2e1]", "sizes", [1, 20.0]),
        ("name='1e-3'", "name", "1e-3"),
        ("name=inf", "name", "inf"),
        ("name=e5", "name", "e5"),
    ],
)
def test_assignment_is_read_as_yaml(text: str, key: str, value: object) -> None:
    got = parse_assignment(text)
    assert got == (key, value)
    assert type(got[1]) is type(value)


@pytest.mark.parametrize("text", ["lr", "=3", " =3", "a={b", "a=[1", "a={b: 1, b: 2}"])
def test_what_is_no_assignment_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(RequestError, match=r"^--set [^\n]*$"):
        parse_assignment(text)


def test_dotted_override_reaches_its_leaf_and_no_other() -> None:
    got = from_assignments("training.schedule.warmup=3", "corpus=bytes")
    expected = Experiment(corpus="bytes", training=Training(schedule=Schedule(warmup=3)))
    assert got == expected
    assert got.digest() != Experiment().digest()


def test_last_part_is_enough_where_it_is_unique() -> None:
    assert resolve_key("corpus", PATHS) == "corpus"
    assert resolve_key("training.learning_rate", PATHS) == "training.learning_rate"
    assert resolve_key("depth", ["model.depth", "other.width"]) == "model.depth"
    with pytest.raises(RequestError, match=r"could be fine_tuning\.schedule\.warmup or training\.schedule\.warmup"):
        resolve_key("warmup", PATHS)
    with pytest.raises(RequestError, match="unknown key; did you mean 'learning_rate'"):
        resolve_key("learningrate", PATHS)
    with pytest.raises(RequestError, match=r"^--set foo: unknown key; there is looks, size$"):
        resolve_key("foo", ["size", "looks"])


def test_whole_path_wins_over_a_last_part() -> None:
    assert resolve_key("name", PATHS) == "name"


def test_leaves_include_those_of_an_optional_part() -> None:
    assert "fine_tuning.schedule.name" in PATHS
    assert "training" not in PATHS
    assert len(PATHS) == len(set(PATHS)) == 9


@given(MAPPINGS, MAPPINGS)
def test_merge_lays_the_second_over_the_first(under: dict[str, Any], over: dict[str, Any]) -> None:
    before = repr((under, over))
    merged = merge(under, over)
    assert repr((under, over)) == before
    assert merge(merged, over) == merged
    assert merge(under, {}) == under
    assert set(merged) == set(under) | set(over)
    for key, value in merged.items():
        if isinstance(under.get(key), dict) and isinstance(over.get(key), dict):
            assert value == merge(under[key], over[key])
        else:
            assert value == (over if key in over else under)[key]


def test_digest_does_not_see_the_order_of_keys() -> None:
    one = Experiment.parse({"corpus": "x", "sizes": {"a": 1, "b": 2}})
    other = Experiment.parse({"sizes": {"b": 2, "a": 1}, "corpus": "x"})
    assert one.digest() == other.digest()
    assert one.digest() != Experiment.parse({"corpus": "x", "sizes": {"a": 2, "b": 1}}).digest()


def test_resolved_copy_reads_back_the_same(tmp_path: Path) -> None:
    config = from_assignments("training.learning_rate=3e-5", "corpus=text:a#b", "name='1e-3'")
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    again = Experiment.parse(read_yaml(path))
    assert again == config
    assert again.digest() == config.digest()


def test_file_may_hold_1e_3_and_nothing_at_all(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("training: {learning_rate: 1e-3}\n")
    assert read_yaml(path) == {"training": {"learning_rate": 0.001}}
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: 1\nb: 2\na: 3\n", "line 3: 'a' stands twice"),
        (b"a: {b: 1, b: 2}\n", "line 1: 'b' stands twice"),
        (b"- a\n- b\n", "holds a list"),
        (b"a: [1\n", "line 2: expected ',' or ']'"),
        (b"a: \xff\n", "not UTF-8 at byte 3"),
        (b"a: \0\n", "not YAML"),
        (b"1: 2\n", "line 1: a key must be a name"),
        (b"a: {true: 2}\n", "line 1: a key must be a name"),
        (b"a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_file_that_does_not_hold_a_configuration_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        read_yaml(path, "--config")
    line = str(caught.value)
    assert line.startswith(f"--config {path}: ")
    assert says in line
    assert "\n" not in line


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"absent\.yaml: No such file"):
        read_yaml(tmp_path / "absent.yaml")
