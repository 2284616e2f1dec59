"""A user's own mixer: the file that `assay new` writes works with every command; mistakes in it are reported."""

import json
import keyword
import re
from pathlib import Path

import pytest
import torch

from assay.cli.new import LONGEST_NAME, MIXER
from assay.model.architecture import ARCHITECTURES
from assay.study.subject.file import registered_by
from cli.command import Assay


@pytest.fixture(autouse=True)
def _registry_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    ARCHITECTURES.names()
    monkeypatch.setattr(ARCHITECTURES, "_items", dict(ARCHITECTURES._items))


def written(assay: Assay, name: str = "my_mixer") -> Path:
    assert assay("new", name).status == 0
    return assay.cwd / f"{name}.py"


def test_new_writes_a_short_file_and_says_what_to_do_with_it(assay: Assay) -> None:
    said = assay("new", "my_mixer")
    assert said.status == 0
    assert len((assay.cwd / "my_mixer.py").read_text().splitlines()) <= 72
    assert "assay check my_mixer.py" in said.out
    assert "--plugin my_mixer.py" in said.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("new", "9lives"), "new 9lives: a name of letters"),
        (("new", "gpt1"), "new gpt1: there is an architecture of that name; my_gpt1 would do"),
        (("new", "a b"), "new a b: a name of letters"),
        (("new", "x" * 33), f"new {'x' * 33}: 33 characters; a name of at most 32 would do"),
    ],
)
def test_new_refuses_what_is_no_name(assay: Assay, arguments: tuple[str, ...], says: str) -> None:
    said = assay(*arguments)
    assert said.status == 2
    assert says in said.err
    assert assay.left() == []


@pytest.mark.parametrize("name", ["torch", "typing", "assay", "code", "numpy"])
def test_new_hides_no_module(assay: Assay, name: str) -> None:
    for arguments, asked in (((name,), f"new {name}"), (("mine", "--out", f"{name}.py"), f"--out {name}.py")):
        said = assay("new", *arguments)
        assert said.status == 2
        assert said.err == f"assay: {asked}: a {name}.py would hide the module {name}; my_{name}.py would do\n"
    assert assay.left() == []


def names() -> list[str]:
    """Python's words and those of the file itself, as they are and in lower case, and names of awkward shapes."""
    words = set(re.findall(r"[A-Za-z]\w*", MIXER.template)) | {*keyword.kwlist, *keyword.softkwlist} - {"_"}
    words |= {"sequence-layer", "named_tuple", "I", "l", "o", "MyMixer", "my-Mixer_2", "x" * LONGEST_NAME}
    return sorted(word for word in words | {word.lower() for word in words} if len(word) <= LONGEST_NAME)


def test_new_writes_a_file_that_works_whatever_the_name(assay: Assay) -> None:
    """Some are modules, and refused."""
    for name in names():
        said = assay("new", name)
        if said.status:
            assert f"new {name}: a {name}.py would hide the module {name}" in said.err
            continue
        (architecture,) = registered_by(Path(f"{name}.py"))
        assert architecture.name == name
        mixer = architecture.mixer(architecture.config.parse(architecture.tiny), 0)
        y, state = mixer(torch.zeros(1, 1, 32))
        assert y.shape == (1, 1, 32)
        assert type(state) is type(mixer.initial_state(1))


def test_new_overwrites_nothing(assay: Assay) -> None:
    path = written(assay)
    path.write_text("mine")
    said = assay("new", "my_mixer")
    assert said.status == 2
    assert "is there already" in said.err
    assert path.read_text() == "mine"


def test_the_file_works_in_describe_check_compare_and_generate(assay: Assay) -> None:
    path = written(assay)
    described = json.loads(assay("describe", "my_mixer", "--plugin", str(path), "--size", "300k", "--json").out)
    assert described["parameters"]["blocks_and_head"] == pytest.approx(300_000, rel=0.01)
    compared = assay("compare", "my_mixer", *assay.small, "--seeds", "1", "--plugin", str(path), "--out", "study")
    assert compared.status == 0
    assert "Audited before and after training: my_mixer sound." in compared.out
    said = assay("generate", "study", "--prompt", "abc", "--max-tokens", "3", "--plugin", str(path))
    assert said.status == 0
    assert "3 tokens in" in said.err


def test_check_answers_for_everything_that_the_file_registers(assay: Assay) -> None:
    path = written(assay)
    said = assay("check", str(path), "--json")
    found = json.loads(said.out.splitlines()[-1])
    assert said.status == 0
    assert found["passed"] is True
    status = {finding["check"]: finding["status"] for finding in found["findings"]["my_mixer"]}
    assert status["causality"] == status["parity"] == status["learning"] == status["decay_roles"] == "pass"
    assert "fail" not in status.values()


WRONG = {
    "no state": ("return y, State(memory)", "return y"),
    "wrong shape": ("return y, State(memory)", "return y[:, :1], State(memory)"),
    "state forgotten": (
        "memory = self.initial_state(len(x)).memory if state is None else state.memory",
        "memory = self.initial_state(len(x)).memory",
    ),
    "an exception": ("outputs = []", "outputs = [][0]"),
    "None as a state": ("return y, State(memory)", "return y, None"),
    "no initial state": ("def initial_state(", "def first_state("),
    "a name that is not there": ("import uniform_fan_in_", "import uniform_fan_inn_"),
    "no Python": ("class {cls}(SequenceLayer):", "class {cls}(SequenceLayer:"),
}
SAYS = {
    "no state": "forward returned a Tensor; a pair (y, state) is needed",
    "wrong shape": "forward returned [2, 1, 32] for inputs [2, 7, 32]",
    "state forgotten": "continuing from its state gives other outputs than one call",
    "an exception": "IndexError: list index out of range",
    "None as a state": "forward returned NoneType as its state",
    "no initial state": "TypeError: Can't instantiate abstract class",
    "a name that is not there": "ImportError: cannot import name 'uniform_fan_inn_'",
    "no Python": "SyntaxError: ",
}


@pytest.mark.parametrize("mistake", WRONG)
@pytest.mark.parametrize("verb", ["describe", "compare"])
def test_a_mistake_is_one_line_with_file_and_line(assay: Assay, mistake: str, verb: str) -> None:
    name = f"mistake_{list(WRONG).index(mistake)}_{verb}"
    path = written(assay, name)
    text = path.read_text()
    (cls,) = {line.split("(")[0].removeprefix("class ") for line in text.splitlines() if "(SequenceLayer)" in line}
    right, wrong = (part.replace("{cls}", cls) for part in WRONG[mistake])
    assert right in text
    path.write_text(text.replace(right, wrong))
    options = [] if verb == "describe" else assay.small
    said = assay(verb, name, *options, "--plugin", str(path))
    assert said.status == 2
    assert len(said.lines) == 1
    assert f"--plugin {path}: line " in said.err
    assert SAYS[mistake] in said.err
    assert assay.left() == [path.name]


def test_a_mistake_on_the_way_is_told_with_file_and_line(assay: Assay) -> None:
    """It raises only on long inputs, which the check of the contract does not try."""
    path = written(assay, "late_mistake")
    text = path.read_text()
    path.write_text(text.replace("outputs = []", "outputs = [][x.shape[1] > 20 :] if x.shape[1] < 20 else [][0]"))
    said = assay("train", "late_mistake", *assay.small, "--plugin", str(path))
    assert said.status == 2
    assert f"--plugin {path}: line " in said.lines[-1]
    assert "IndexError" in said.lines[-1]


def test_flops_of_a_state_must_be_declared_to_be_matched(assay: Assay) -> None:
    """Without a declaration `check` warns, and neither a size nor given dimensions are matched by FLOPs."""
    path = written(assay, "silent")
    assert assay("check", str(path)).out.startswith("silent: passes\n")
    lines = path.read_text().splitlines(keepends=True)
    begin = next(number for number, line in enumerate(lines) if "def flops_per_token" in line)
    path.write_text("".join(lines[:begin] + lines[begin + 3 :]))
    said = assay("check", str(path))
    assert said.status == 0
    assert said.out.startswith("silent: passes, with a warning: declared flops\n")
    says = "--match flops: silent: Silent keeps a state and declares no FLOPs of its own; "
    for more in ((), ("--size", "1M")):
        said = assay("compare", "gpt1", "silent", "--plugin", str(path), "--match", "flops", *assay.small, *more)
        assert said.status == 2
        assert says in said.err


def test_check_finds_a_leak_and_names_the_module(assay: Assay) -> None:
    path = written(assay, "peeking")
    text = path.read_text()
    path.write_text(text.replace("value, keep = self.value(x)", "value, keep = self.value(x + x.mean(1, True))"))
    said = assay("check", str(path), "--json")
    found = json.loads(said.out.splitlines()[-1])["findings"]["peeking"]
    assert said.status == 1
    (causality,) = [finding for finding in found if finding["check"] == "causality"]
    assert causality["status"] == "fail"
    assert causality["where"].startswith("blocks.0.mixer:")
