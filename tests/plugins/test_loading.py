"""Plug-in files: what their digest covers, that exactly the hashed bytes run, reloading, modules of one name."""

import importlib
import os
import pickle
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from assay.errors import RequestError
from assay.plugins.blame import blamed
from assay.plugins.loading import load_plugin, loaded_plugins, plugin_source
from assay.registry import Registry

FRUITS: Registry[str] = Registry("fruit", "assay.data.corpora")
REGISTER = "from assay.registry import _registries\nFRUITS = next(r for r in _registries if r.kind == 'fruit')\n"


@pytest.fixture(autouse=True)
def _no_fruit_and_no_path_is_left() -> Iterator[None]:
    path, names, finders = list(sys.path), set(sys.modules), list(sys.meta_path)
    yield
    assert sys.path == path
    assert [name for name in set(sys.modules) - names if name.startswith(("helper", "parts", "deep"))] == []
    assert len(sys.meta_path) <= len(finders) + 1
    for name in list(FRUITS._items):
        del FRUITS._items[name]


def write(folder: Path, **sources: str) -> Path:
    """Files `name.py` in `folder`, "__" in a name for "/"; the first is returned."""
    paths = [folder / f"{name.replace('__', '/', 1) if '___' not in name else name}.py" for name in sources]
    for path, source in zip(paths, sources.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return paths[0]


def package(folder: Path, name: str = "parts", **sources: str) -> None:
    write(folder / name, **{"a": "", **sources})
    (folder / name / "__init__.py").write_text(sources.get("init", ""))


def covered(path: Path) -> set[str]:
    return {file.relative_to(path.parent).as_posix() for file in plugin_source(path).files}


def loaded(path: Path) -> tuple[ModuleType, str]:
    module = load_plugin(path)
    return module, plugin_source(path).digest


def refusal(path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        load_plugin(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sibling_is_imported_from_the_plugins_own_folder(tmp_path: Path) -> None:
    path = write(tmp_path, it="import helper\nvalue = helper.value\n", helper="value = 1\n", other="")
    assert load_plugin(path).value == 1
    assert covered(path) == {"it.py", "helper.py"}
    assert "helper" not in sys.modules
    source = plugin_source(path)
    assert (source.name, source.path, len(source.digest)) == ("it.py", path, 64)
    assert loaded_plugins()[-1] == source


IMPORTS = {
    "plain": "import helper",
    "from": "from helper import value",
    "as": "import helper as h",
    "in a function": "def f():\n    import helper",
    "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper",
    "of a package": "import parts",
    "from a package": "from parts import a",
    "of an inner module": "import parts.a\nparts.a",
    "as of an inner module": "import parts.a as inner",
    "of a folder": "from plain import a",
    "by importlib": "import importlib\nname = 'hel' + 'per'\nimportlib.import_module(name)",
    "by importlib, inner": "import importlib\nimportlib.import_module('.'.join(['parts', 'a']))",
    "by __import__": "__import__('hel' + 'per')",
    "by sys.path": "import sys, os\nsys.path.insert(0, os.path.dirname(__file__))\nimport helper",
    "by sys.path, deeper": "import sys, os\nsys.path.insert(0, os.path.dirname(__file__) + '/lib')\nimport deep",
    "by sys.path, later": (
        "import sys, os\nsys.path.append(os.path.dirname(__file__) + '/lib')\n\ndef f():\n    import deep"
    ),
    "by a spec": (
        "import importlib.util as u, os, sys\n"
        "s = u.spec_from_file_location('helper_x', os.path.dirname(__file__) + '/helper.py')\n"
        "m = sys.modules['assay_plugin_extra'] = u.module_from_spec(s)\ns.loader.exec_module(m)"
    ),
}
PARTS = {"parts/__init__.py", "parts/a.py", "parts/b.py", "parts/c.py"}
COVERS = {
    **{kind: {"helper.py"} for kind in IMPORTS},
    "of a package": {"parts/__init__.py", "parts/c.py"},
    "from a package": PARTS,
    "of an inner module": PARTS,
    "as of an inner module": PARTS,
    "by importlib, inner": PARTS,
    "of a folder": {"plain/a.py"},
    "by sys.path, deeper": {"lib/deep.py"},
    "by sys.path, later": {"lib/deep.py"},
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_every_kind_of_import_is_covered_and_an_edit_is_seen(tmp_path: Path, kind: str) -> None:
    package(
        tmp_path,
        init="from .c import value\n",
        a="from . import b\n",
        b="def f():\n    from .. import x\n",
        c="value = 1\n",
    )
    write(tmp_path / "plain", a="")
    write(tmp_path / "lib", deep="")
    path = write(tmp_path, it=f"{IMPORTS[kind]}\n", helper="value = 1\n", unused="")
    module, digest = loaded(path)
    assert covered(path) == {"it.py"} | COVERS[kind]
    assert loaded(path) == (module, digest)
    if hasattr(module, "f"):
        module.f()
    digests = {digest}
    for name in [*COVERS[kind], "it.py"]:
        with (tmp_path / name).open("a") as file:
            file.write("more = 1\n")
        again, digest = loaded(path)
        assert again is not module
        module = again
        digests.add(digest)
    assert len(digests) == 2 + len(COVERS[kind])
    (tmp_path / "unused.py").write_text("more = 1\n")
    assert loaded(path) == (module, digest)
    sys.modules.pop("assay_plugin_extra", None)


def test_a_moved_folder_has_the_same_digest_a_renamed_file_another(tmp_path: Path) -> None:
    sources = {"it": "import helper\n", "helper": "value = 1\n"}
    one, two = write(tmp_path / "one", **sources), write(tmp_path / "two/deep", **sources)
    three = write(tmp_path / "three", mine=sources["it"], helper=sources["helper"])
    assert loaded(one)[1] == loaded(two)[1] != loaded(three)[1]


def test_two_folders_each_have_their_own_helper_now_and_later(tmp_path: Path) -> None:
    source = "import helper\n\ndef later():\n    import lazy\n    from parts import a\n"
    source += "    return helper.value, lazy.value, a.value\n"
    paths = []
    for name in ("one", "two"):
        value = f"value = {name!r}\n"
        paths.append(write(tmp_path / name, it=source, helper=value, lazy=value))
        package(tmp_path / name, a=value)
    modules = [load_plugin(path) for path in paths]
    for _ in range(2):
        assert [module.later() for module in modules] == [("one",) * 3, ("two",) * 3]


def test_a_module_of_the_same_name_elsewhere_is_neither_used_nor_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ModuleType("alien")
    monkeypatch.setitem(sys.modules, "alien", elsewhere)
    source = "import importlib, alien\nassert importlib.import_module('ali' + 'en') is alien\n"
    path = write(tmp_path, it=source + "value = alien.value\n", alien="value = 1\n")
    assert load_plugin(path).value == 1
    assert sys.modules["alien"] is elsewhere


def test_what_is_imported_later_is_what_was_hashed(tmp_path: Path) -> None:
    path = write(tmp_path, it="def f():\n    import helper\n    return helper.value\n", helper="value = 1\n")
    module, before = loaded(path)
    (tmp_path / "helper.py").write_text("value = 2\n")
    assert module.f() == 1
    again, after = loaded(path)
    assert again.f() == 2
    assert before != after
    with pytest.raises(ImportError, match=r"^helper is asked for by code that is no longer loaded"):
        module.f()


def test_what_was_not_there_when_it_was_loaded_is_refused_later(tmp_path: Path) -> None:
    source = (
        "def f():\n    import helper_late\n\ndef g(name):\n    import importlib\n    importlib.import_module(name)\n"
    )
    package(tmp_path)
    path = write(tmp_path, it=source + "import parts\n\ndef h():\n    from parts import late\n")
    module = load_plugin(path)
    write(tmp_path, helper_late="", parts__late="")
    for call in (module.f, module.h, lambda: module.g("helper_late"), lambda: module.g("parts.a")):
        with pytest.raises(ImportError):
            call()
    assert load_plugin(path).f() is None


@pytest.mark.parametrize("edited", ["it.py", "helper.py"])
def test_an_edit_of_the_same_size_in_the_same_second_is_seen(tmp_path: Path, edited: str) -> None:
    """There is a .pyc of the old source, which Python alone would take for current."""
    path = write(tmp_path, it="import helper\nvalue = 1, helper.value\n", helper="value = 1\n")
    module, before = loaded(path)
    file = tmp_path / edited
    stat = file.stat()
    py_compile.compile(str(file), doraise=True)
    file.write_text(file.read_text().replace("value = 1", "value = 2"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again, after = loaded(path)
    assert module.value == (1, 1)
    assert again.value == ((2, 1) if edited == "it.py" else (1, 2))
    assert before != after
    assert sorted(tmp_path.glob("__pycache__/*")) == [
        tmp_path / f"__pycache__/{file.stem}.cpython-{sys.version_info[0]}{sys.version_info[1]}.pyc"
    ]


def test_loading_anew_forgets_what_the_old_one_registered(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        it=REGISTER + "import helper\nFRUITS.register('fig', 'old')\n",
        helper=REGISTER + "FRUITS.register('kiwi', 'old')\n",
    )
    load_plugin(path)
    assert {"fig", "kiwi"} <= set(FRUITS.names())
    path.write_text(REGISTER + "import helper\nFRUITS.register('pear', 'new')\n")
    load_plugin(path)
    assert "fig" not in FRUITS.names()
    assert {"kiwi", "pear"} <= set(FRUITS.names())
    (tmp_path / "helper.py").write_text(REGISTER + "FRUITS.register('kiwi', 'new')\n")
    load_plugin(path)
    assert FRUITS.get("kiwi") == "new"


def test_a_load_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, it=REGISTER + "FRUITS.register('fig', '')\nimport helper\n", helper="")
    load_plugin(path)
    (tmp_path / "helper.py").write_text("x = 1\nx / 0\n")
    assert refusal(path) == f"--plugin {path}: helper.py: line 2: ZeroDivisionError: division by zero"
    assert "fig" not in FRUITS.names()
    assert path not in [source.path for source in loaded_plugins()]
    with pytest.raises(RequestError, match=r"it.py: not loaded as a plug-in$"):
        plugin_source(path)
    left = [module for name, module in sys.modules.items() if name.startswith("assay_plugin_")]
    assert [module for module in left if str(module.__file__).startswith(str(tmp_path))] == []
    assert refusal(path).endswith("division by zero")
    (tmp_path / "helper.py").write_text("x = 1\n")
    load_plugin(path)
    assert FRUITS.origin("fig").digest == plugin_source(path).digest


def test_a_plugin_that_another_imports_registers_once(tmp_path: Path) -> None:
    base = write(
        tmp_path, base=REGISTER + "FRUITS.register('fig', 'old')\n", it="import base\nfig = base.FRUITS.get('fig')\n"
    )
    for order in (("base", "it"), ("it", "base")):
        for name in order:
            load_plugin(tmp_path / f"{name}.py")
        assert load_plugin(tmp_path / "it.py").base is load_plugin(base)
    base.write_text(REGISTER + "FRUITS.register('fig', 'new')\n")
    load_plugin(base)
    assert FRUITS.get("fig") == "new"
    assert load_plugin(tmp_path / "it.py").fig == "new"


def test_plugins_that_share_a_helper_are_never_of_two_ages(tmp_path: Path) -> None:
    """1. When the shared helper changes, loading one plug-in reloads the other too; 2. when only one plug-in changes,
    the other stays.
    """
    one = write(
        tmp_path, one="import helper\n", two="import helper\n", helper=REGISTER + "FRUITS.register('fig', 'old')\n"
    )
    two = tmp_path / "two.py"
    modules = [load_plugin(one), load_plugin(two)]
    one.write_text("import helper  # edited\n")
    again = load_plugin(one)
    assert load_plugin(two) is modules[1]
    assert again.helper is modules[1].helper
    assert FRUITS.origin("fig").name == "two.py"
    (tmp_path / "helper.py").write_text(REGISTER + "FRUITS.register('fig', 'new')\n")
    again = load_plugin(two)
    assert load_plugin(one).helper is again.helper
    assert FRUITS.get("fig") == "new"


def test_ours_and_the_environments_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in at the root of a repository, with an environment and assay's source beside it."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    installed = tmp_path / "env/lib/site-packages"
    write(installed, deep_installed="value = 1\n")
    package(tmp_path, "assay", init="raise ValueError")
    package(tmp_path, "env", init="value = 1\n")
    path = write(tmp_path, it="import assay.errors\nimport deep_installed\nimport torch\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(installed))
        importlib.invalidate_caches()
        load_plugin(path)
    assert covered(path) == {"it.py"}
    sys.modules.pop("deep_installed")


def test_a_name_of_python_is_refused_where_it_is_imported(tmp_path: Path) -> None:
    path = write(tmp_path, it="x = 1\n", json="x = 1\n", random="import random\nassert random.Random\n")
    load_plugin(path)
    load_plugin(tmp_path / "random.py")
    path.write_text("import json\n")
    says = f"{tmp_path / 'json.py'}: has the name of a module of Python that is imported; my_json would do"
    assert refusal(path) == f"--plugin {path}: {says}"


def test_a_plugin_may_be_called_as_what_it_wraps(tmp_path: Path) -> None:
    path = write(
        tmp_path, einops="from einops import rearrange\nimport helper\n", helper="import einops\nwhat = einops\n"
    )
    module = load_plugin(path)
    assert module.rearrange.__module__.startswith("einops")
    assert module.helper.what is module


@pytest.mark.parametrize("name", ["my-mixer.py", "my.mixer.py", "__init__.py", "ä b.py"])
def test_any_name_of_a_file_will_do(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, helper="value = 1\n").rename(tmp_path / "helper.py").with_name(name)
    path.write_text(
        "from dataclasses import dataclass\nimport helper\n\n@dataclass\nclass C:\n    x: int = helper.value\n"
    )
    assert load_plugin(path).C().x == 1
    assert covered(path) == {name, "helper.py"}


def test_what_is_imported_no_more_is_covered_no_more(tmp_path: Path) -> None:
    path = write(tmp_path, it="import helper\n", helper="")
    load_plugin(path)
    path.write_text("x = 1\n")
    digest = loaded(path)[1]
    assert covered(path) == {"it.py"}
    twin = write(tmp_path / "twin", it="x = 1\n")
    assert loaded(twin)[1] == digest


def test_a_path_that_is_put_in_and_taken_out_again_is_followed(tmp_path: Path) -> None:
    source = "import sys, os\nsys.path.insert(0, os.path.dirname(__file__) + '/lib')\nimport deep\nsys.path.pop(0)\n"
    path = write(tmp_path, it=source)
    write(tmp_path / "lib", deep="import deeper\n", deeper="value = 1\n")
    module = load_plugin(path)
    assert covered(path) == {"it.py", "lib/deep.py", "lib/deeper.py"}
    assert load_plugin(path) is module
    write(tmp_path / "lib", deeper="value = 2\n")
    assert load_plugin(path).deep.deeper.value == 2


def test_a_new_sibling_that_was_asked_for_in_vain_is_a_change(tmp_path: Path) -> None:
    path = write(tmp_path, it="try:\n    import helper\nexcept ImportError:\n    helper = None\n")
    assert load_plugin(path).helper is None
    write(tmp_path, helper="value = 1\n")
    assert load_plugin(path).helper.value == 1


def test_a_plugin_that_is_gone_is_unloaded(tmp_path: Path) -> None:
    path = write(tmp_path, it=REGISTER + "FRUITS.register('fig', '')\n")
    load_plugin(path)
    path.unlink()
    assert refusal(path) == f"--plugin {path}: no such file"
    assert "fig" not in FRUITS.names()


def test_a_failure_of_one_leaves_what_another_shares(tmp_path: Path) -> None:
    source = "def f():\n    import helper\n    return helper.value\n"
    one, two = write(tmp_path, one=source, helper="value = 1\n"), write(tmp_path, two=source)
    module = load_plugin(one)
    load_plugin(two)
    two.write_text("import helper\nx = 1 / 0\n")
    refusal(two)
    assert module.f() == 1
    two.unlink()
    refusal(two)
    assert load_plugin(one) is module


def test_a_sibling_hides_nothing_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed library that imports a module of a sibling's name while the plug-in is loaded gets its own."""
    site = tmp_path / "site-packages"
    write(site, library_x="import alien_x\n", alien_x="value = 'library'\n")
    source = "import library_x, alien_x\nvalues = library_x.alien_x.value, alien_x.value\n"
    path = write(tmp_path / "mine", it=source, alien_x="value = 'sibling'\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(site))
        assert load_plugin(path).values == ("library", "sibling")
    for name in ("library_x", "alien_x"):
        del sys.modules[name]


def test_what_a_plugin_makes_is_pickled_like_any_other(tmp_path: Path) -> None:
    path = write(tmp_path, it="import helper\n\nclass C(helper.Base):\n    pass\n", helper="class Base:\n    pass\n")
    module = load_plugin(path)
    for cls in (module.C, module.helper.Base):
        assert type(pickle.loads(pickle.dumps(cls()))) is cls


def test_a_package_imports_itself_by_its_name_now_and_later(tmp_path: Path) -> None:
    package(
        tmp_path,
        init="from parts.a import f\n",
        a="def f():\n    import parts.b\n    return parts.b.value\n",
        b="value = 1\n",
    )
    path = write(tmp_path, it="import parts\n")
    assert load_plugin(path).parts.f() == 1
    assert covered(path) == {"it.py", "parts/__init__.py", "parts/a.py", "parts/b.py"}


def test_what_fails_later_in_a_sibling_is_told_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, it="def f():\n    import helper\n", helper="x = 1\nx / 0\n")
    module = load_plugin(path)
    with pytest.raises(ZeroDivisionError) as caught:
        module.f()
    assert blamed(caught.value) == f"--plugin {path}: helper.py: line 2: ZeroDivisionError: division by zero"


def test_a_sibling_may_be_called_as_what_it_wraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "site-packages", alien_y="value = 'library'\n")
    source = "from alien_y import value\n"
    path = write(tmp_path / "mine", it=source, alien_y=source)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site-packages"))
        assert load_plugin(path).value == "library"
    del sys.modules["alien_y"]
