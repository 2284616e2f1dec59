"""Registries: what a wrong name, a name taken twice and a broken plug-in say, and that a file loads once."""

import functools
import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.errors import RequestError
from assay.plugins.blame import blamed, place_of
from assay.plugins.loading import load_plugin
from assay.registry import Registry, suggestion

REFUSE = "from assay.errors import RequestError\nfrom assay.plugins.blame import place_of"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[object]]:
    """A registry over a package with two files, each of which registers one item when imported."""
    package = tmp_path / "dishes"
    package.mkdir()
    (package / "__init__.py").write_text("from assay.registry import Registry\nDISHES = Registry('dish', 'dishes')\n")
    for name in ("tomato_soup", "potato_salad"):
        (package / f"{name}.py").write_text(f"from dishes import DISHES\nDISHES.register({name!r}, object())\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import dishes  # type: ignore[import-not-found]

    yield dishes.DISHES
    for name in [name for name in sys.modules if name.split(".")[0] == "dishes"]:
        del sys.modules[name]


def write_plugin(folder: Path, source: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(source)
    return path


def refusal(path: Path) -> str:
    """The one line that loading `path` is refused with."""
    with pytest.raises(RequestError) as caught:
        load_plugin(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_scan_finds_every_file_of_the_package(registry: Registry[object]) -> None:
    assert registry.names() == ["potato_salad", "tomato_soup"]
    assert list(registry) == [registry.get("potato_salad"), registry.get("tomato_soup")]


def test_unknown_name_offers_the_nearest(registry: Registry[object]) -> None:
    with pytest.raises(RequestError, match=r"^unknown dish 'tomatosoup': did you mean 'tomato_soup'\?"):
        registry.get("tomatosoup")


def test_far_name_lists_what_there_is_without_a_guess() -> None:
    assert suggestion("zzz", ["rwkv6", "gpt1"]) == "there is gpt1, rwkv6"
    assert suggestion("foo", ["looks", "gpt1"]) == "there is gpt1, looks"


def test_name_is_taken_once(registry: Registry[object]) -> None:
    soup = registry.get("tomato_soup")
    assert registry.register("tomato_soup", soup) is soup
    with pytest.raises(RequestError, match="dish 'tomato_soup' is registered twice"):
        registry.register("tomato_soup", object())
    assert registry.get("tomato_soup") is soup


def test_failed_scan_fails_again(registry: Registry[object], tmp_path: Path) -> None:
    broken = tmp_path / "dishes" / "broken.py"
    broken.write_text("raise ValueError('spoilt')\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="spoilt"):
            registry.names()
    broken.unlink()
    assert registry.names() == ["potato_salad", "tomato_soup"]


def test_installed_package_registers_through_its_entry_point(
    registry: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path, "from dishes import DISHES\nDISHES.register('stew', object())\n", "dishes_extra.py")
    importlib.invalidate_caches()
    entry = importlib.metadata.EntryPoint("extra", "dishes_extra", "assay.dishs")

    def entry_points(group: str) -> list[Any]:
        return [entry] if group == entry.group else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert "stew" in registry.names()


def test_plugin_file_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counter = tmp_path / "runs"
    source = f"with open({str(counter)!r}, 'a') as file:\n    file.write('x')\n"
    path = write_plugin(tmp_path, source)
    assert load_plugin(path) is load_plugin(Path("mine.py"))
    assert counter.read_text() == "x"


def test_two_plugins_of_one_name_are_two(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = load_plugin(write_plugin(tmp_path, "value = 1\n"))
    two = load_plugin(write_plugin(tmp_path / "other", "value = 2\n"))
    assert (one.value, two.value) == (1, 2)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import math\n\nmath.square(2)\n", "line 3: AttributeError: module 'math' has no attribute 'square'"),
        ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError: division by zero"),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError: "),
        ("x = 1\ny = = 2\n", "line 2: SyntaxError: invalid syntax"),
        ("raise ValueError('two\\nlines')\n", "line 1: ValueError: two lines"),
        ("import sys\nsys.exit('enough')\n", "line 2: SystemExit: enough"),
        ("class Odd(BaseException):\n    pass\nraise Odd('end')\n", "line 3: Odd: end"),
        ("x = 'a\0b'\n", "SyntaxError: source code"),
        (f"{REFUSE}\nraise RequestError('a whole line')\n", "line 3: a whole line"),
        (f"{REFUSE}\ndef f(): ...\nraise RequestError(f'{{place_of(f)}}: a name')\n", "line 3: a name"),
    ],
)
def test_broken_plugin_is_one_line_with_file_and_line(tmp_path: Path, source: str, says: str) -> None:
    path = write_plugin(tmp_path, source)
    assert refusal(path).startswith(f"--plugin {path}: {says}")
    path.write_text("value = 'mended'\n")
    assert load_plugin(path).value == "mended"


def test_name_that_a_plugin_takes_twice_is_refused_at_its_line(tmp_path: Path) -> None:
    taken = "from assay.registry import Registry\nfruits = Registry('fruit', 'fruits')\n"
    path = write_plugin(tmp_path, taken + "fruits.register('fig', 1)\nfruits.register('fig', 2)\n")
    assert refusal(path).startswith(f"--plugin {path}: line 4: fruit 'fig' is registered twice")


def test_what_is_no_python_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.py").endswith("absent.py: no such file")
    assert refusal(tmp_path).endswith(": no such file")
    assert refusal(write_plugin(tmp_path, "x = 1\n", "mine.txt")).endswith("mine.txt: not a Python file")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\nx / 0\n", "line 2: ZeroDivisionError"),
        ("x = = 2\n", "line 1: SyntaxError"),
        ("import sys\nsys.exit()\n", "line 2: SystemExit"),
        ("\nassert 1 > 2\n", "line 2: AssertionError: assert 1 > 2"),
    ],
)
@pytest.mark.parametrize("layout", ["package/arch.py", "arch.py"])
def test_broken_package_is_one_line_with_file_and_line(
    registry: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, source: str, says: str
) -> None:
    name = f"broken_{tmp_path.name}"
    path = tmp_path / layout.replace("package", f"{name}_package").replace("arch", name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    importlib.invalidate_caches()
    module = ".".join(path.relative_to(tmp_path).with_suffix("").parts)
    entry = importlib.metadata.EntryPoint("extra", module, "assay.dishs")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] * (group == "assay.dishs"))
    with pytest.raises(RequestError) as caught:
        registry.names()
    assert str(caught.value).startswith(f"entry point extra: {path}: {says}")


def test_entry_point_to_nowhere_says_what_it_names(registry: Registry[object], monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint("extra", "not_there.at_all", "assay.dishs")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] * (group == "assay.dishs"))
    with pytest.raises(RequestError, match=r"^entry point extra: its entry point extra = not_there.at_all: Module"):
        registry.names()


def test_an_error_that_a_plugin_caused_is_its_own(tmp_path: Path) -> None:
    plugin = load_plugin(write_plugin(tmp_path, "def f():\n    assert 0\n\n\nclass C:\n    pass\n", "caused.py"), "")
    with pytest.raises(AssertionError) as caught:
        plugin.f()
    ours = RuntimeError("ours")
    ours.__cause__ = caught.value
    assert blamed(ours) == f"{tmp_path / 'caused.py'}: line 2: AssertionError: assert 0"
    assert blamed(RuntimeError("ours")) is None
    assert place_of(plugin.C) == f"{tmp_path / 'caused.py'}: line 5"
    assert place_of(Registry, functools.partial(plugin.f)) == f"{tmp_path / 'caused.py'}: line 1"
    assert place_of(Registry).endswith(f"registry.py: line {inspect.getsourcelines(Registry)[1]}")
    assert place_of(int) == "builtins: line 0"


def test_a_file_is_called_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for option, given in (("", "absent.py"), ("--plugin", "--plugin absent.py")):
        with pytest.raises(RequestError, match=f"^{given}: no such file$"):
            load_plugin(Path("absent.py"), option)
