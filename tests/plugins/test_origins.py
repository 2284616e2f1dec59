"""Who registered an item: assay, a package, a plug-in file or the calling Python, each with a digest of its source."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.data.corpus import CORPORA
from assay.model.architecture import ARCHITECTURES
from assay.plugins.bytecode import bytecode_digest
from assay.plugins.loading import load_plugin, plugin_source
from assay.plugins.origins import Origin
from assay.plugins.source_files import definitions
from assay.registry import Registry

NUTS: Registry[object] = Registry("nut", "assay.data.corpora", "assay.nuts_for_tests")
IMPORT = "from assay import registry\nNUTS = next(r for r in registry._registries if r.kind == 'nut')\n"


@pytest.fixture(autouse=True)
def _no_nut_is_left() -> Iterator[None]:
    yield
    NUTS._items.clear()
    NUTS._discovered = False


def write(folder: Path, name: str, source: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(source)
    return path


def enter(monkeypatch: pytest.MonkeyPatch, folder: Path, value: str, dist: str | None = None) -> None:
    """Make `value` an entry point, of a module below `folder`, and of a distribution called `dist`."""
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    entry = importlib.metadata.EntryPoint("extra", value, NUTS.group)
    if dist is not None:
        info = write(folder / f"{dist}.dist-info", "METADATA", f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1\n")
        vars(entry).update(dist=importlib.metadata.PathDistribution(info.parent))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] * (group == NUTS.group))


def test_what_assay_brings_is_built_in() -> None:
    assert {ARCHITECTURES.origin(name) for name in ("gpt1", "rwkv6", "twin")} == {Origin("built-in", "assay")}
    assert {CORPORA.origin(name) for name in CORPORA.names()} == {Origin("built-in", "assay")}


def test_a_plugins_item_has_its_name_and_digest(tmp_path: Path) -> None:
    source = "import helper\nhelper.NUTS.register('pecan', 1)\n\ndef later():\n    helper.NUTS.register('late', 1)\n"
    path = write(tmp_path, "it.py", source)
    write(tmp_path, "helper.py", IMPORT + "NUTS.register('hazel', 1)\n")
    load_plugin(path).later()
    origins = [NUTS.origin(name) for name in ("pecan", "hazel", "late")]
    assert origins == [Origin("plug-in", "it.py", plugin_source(path).digest)] * 3
    assert {origin.path for origin in origins} == {path}
    write(tmp_path, "helper.py", IMPORT + "NUTS.register('hazel', 2)\n")
    load_plugin(path)
    assert NUTS.origin("hazel") == Origin("plug-in", "it.py", plugin_source(path).digest) != origins[0]


def test_what_a_plugin_makes_assay_import_is_not_the_plugins(tmp_path: Path) -> None:
    """In a fresh process, where the scan is not over when the plug-in is loaded."""
    path = write(tmp_path, "it.py", "import assay\nfrom assay.model.presets import gpt1\nassay.register\n")
    script = (
        "import sys\nfrom pathlib import Path\nfrom assay.plugins.loading import load_plugin\n"
        "load_plugin(Path(sys.argv[1]))\n"
        "from assay.model.architecture import ARCHITECTURES\nprint(ARCHITECTURES.origin('gpt1').kind)\n"
    )
    assert run(write(tmp_path, "script.py", script), str(path)) == "built-in"


@pytest.mark.parametrize("layout", ["nuts_of_one/inner/arch.py", "nuts_of_two.py"])
@pytest.mark.parametrize("dist", ["nuts-of", None])
def test_a_packages_item_has_the_distribution_and_a_digest_of_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, dist: str | None
) -> None:
    digests = set()
    for source in ("", "", "# edited\n"):
        NUTS._items.clear()
        NUTS._discovered = False
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write(folder / Path(layout).parent, Path(layout).name, f"{IMPORT}NUTS.register('pecan', 1)\n{source}")
        with monkeypatch.context() as patch:
            enter(patch, folder, layout.removesuffix(".py").replace("/", "."), dist)
            origin = NUTS.origin("pecan")
        assert (origin.kind, origin.name) == ("package", dist or "extra")
        digests.add(origin.digest)
        for name in [name for name in sys.modules if name.startswith("nuts_of")]:
            del sys.modules[name]
    assert len(digests) == 2


def test_a_package_that_was_imported_before_is_still_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "site", "nuts_of_three.py", f"{IMPORT}NUTS.register('pecan', 1)\n")
    enter(monkeypatch, tmp_path / "site", "nuts_of_three", "nuts")
    load_plugin(write(tmp_path / "mine", "it.py", "import nuts_of_three\n"))
    assert NUTS.origin("pecan").name == "nuts"
    del sys.modules["nuts_of_three"]


def run(script: Path, *arguments: str) -> str:
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


SCRIPT = '''
from assay.registry import Registry
import helper

NUTS = Registry("nut", "assay.data.corpora")
WIDTH = 8
SEEDS = 3


class Nut:
    """A nut."""

    width = WIDTH


def compare(seeds):
    return NUTS.origin("pecan")


NUTS.register("pecan", Nut())
origin = compare(seeds=SEEDS)
print(origin.kind, origin.name, origin.digest)
'''


def test_a_callers_digest_is_that_of_its_definitions(tmp_path: Path) -> None:
    def said(right: str = "", wrong: str = "", helper: str = "x = 1\n") -> list[str]:
        assert right in SCRIPT
        write(tmp_path, "helper.py", helper)
        return run(write(tmp_path, "my_script.py", SCRIPT.replace(right, wrong) if right else SCRIPT)).split()

    first = said()
    assert first[:2] == ["caller", "my_script.py"]
    assert len(first[2]) == 64
    assert said("compare(seeds=SEEDS)", "compare(seeds=5)  # five") == first, "1. calls of compare do not count"
    assert said("SEEDS = 3", "SEEDS = 4") == first, "2. nor does what only they read"
    assert said("WIDTH = 8", "WIDTH = 9") != first, "3. a value that a definition reads counts"
    assert said("    width = WIDTH", "    width = 2 * WIDTH") != first, "4. a definition counts"
    assert said(helper="def f(): pass\n") != first, "5. an imported module counts"
    assert said() == first, "6. the script as it was has the digest that it had"


def test_a_callers_digest_is_that_of_all_that_makes_the_item() -> None:
    """What registers it, and what changes a table it reads, belongs to it; what is compared and shown does not."""
    source = (
        "import assay, functools\nOPTIONS = {'a': 1.0}\n"
        "def mixer(x, gain): return x * gain * OPTIONS['a']\n"
        "%s\nregister(functools.partial(mixer, gain=%s))\n"
        "def main(): study = assay.compare(['it'], seeds=%s); print(study)\n"
        "result = assay.compare(['it'], seeds=%s)\nfor pair in result: print(pair, %s)\nmain()\n"
    )

    def told(table: str = "", gain: float = 1.0, seeds: str = "[0]", shown: str = "1") -> str:
        return definitions((source % (table, gain, seeds, seeds, shown)).encode())

    assert told() == told(seeds="[0, 1]") == told(shown="2")
    assert len({told(), told(gain=3.0), told("OPTIONS.update(a=3.0)"), told("OPTIONS['a'] = 3.0")}) == 4


def test_what_has_no_source_has_no_digest(tmp_path: Path) -> None:
    code = SCRIPT.replace("import helper", "")
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert said.stdout.split() == ["caller", "<python>", "None"]


CELL = """
class Layer:
    width = {width}

    def forward(self, x):
        return [x {operator} 2 for _ in range(3)]


def mixer(config, index):
    return Layer()
"""


def test_an_edited_cell_of_a_notebook_is_other_code() -> None:
    """No file holds it: the digest is of its bytecode, in which a comment or a line number is nothing."""

    def digest(operator: str = "*", width: int = 4, before: str = "") -> str | None:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(before + CELL.format(operator=operator, width=width), "<cell>", "exec"), names)
        return bytecode_digest([names["mixer"], names["Layer"]])

    assert digest() == digest(before="# a remark\n\n") is not None
    assert len({digest(), digest("+"), digest(width=5)}) == 3


def test_here_it_is_this_file(monkeypatch: pytest.MonkeyPatch) -> None:
    NUTS.register("pecan", 1)
    origin = NUTS.origin("pecan")
    assert (origin.kind, origin.name, origin.path) == ("caller", "test_origins.py", Path(__file__))
    assert origin.digest is not None
    monkeypatch.setitem(NUTS._items, "put", 2)
    assert NUTS.origin("put") == Origin("caller", "<python>")
