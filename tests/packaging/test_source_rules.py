"""Rules that every module of assay keeps: it says its job, draws from no global generator, unpickles nothing."""

import ast
import builtins
import symtable
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "assay"
MODULES = sorted(SOURCE.rglob("*.py"))

VAGUE_NAMES = {"base", "utils", "util", "helpers", "helper", "common", "misc"}
NUMPY_GENERATORS = {"Generator", "BitGenerator", "SeedSequence", "Philox", "PCG64", "default_rng"}
GLOBAL_IN_TORCH = {
    *("torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.random.seed", "torch.set_rng_state"),
    *("torch.cuda.manual_seed", "torch.cuda.manual_seed_all", "torch.random.set_rng_state"),
}
TORCH_DRAWS = {
    *("torch.rand", "torch.randn", "torch.randint", "torch.randperm", "torch.normal", "torch.bernoulli"),
    *("torch.multinomial", "torch.poisson"),
    *(f"torch.nn.init.{name}_" for name in ("uniform", "normal", "trunc_normal", "orthogonal", "sparse")),
    *(f"torch.nn.init.{name}_{kind}_" for name in ("xavier", "kaiming") for kind in ("uniform", "normal")),
}
DRAWING_METHODS = {
    "uniform_",
    "normal_",
    "random_",
    "bernoulli_",
    "exponential_",
    "log_normal_",
    "cauchy_",
    "geometric_",
}
UNPICKLING = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
UNSAFE = {
    *("torch.load", "torch.save", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader", "yaml.FullLoader"),
    *("yaml.UnsafeLoader", "eval", "exec"),
}


def full_names(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Every name and attribute chain with its full dotted name, import aliases resolved."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            aliases |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(inner, ast.Name):
            yield node, ".".join([aliases.get(inner.id, inner.id), *reversed(parts)])


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def is_global_draw(name: str) -> bool:
    """Whether `name` is a function of a generator that the whole process shares."""
    if name.startswith("numpy.random."):
        return name.split(".")[2] not in NUMPY_GENERATORS
    if name.startswith("random."):
        return name.split(".")[1] not in {"Random"}
    return name in GLOBAL_IN_TORCH


def global_draws(source: str) -> list[int]:
    """Lines that seed a global generator, draw from one, or draw without naming a generator."""
    tree = ast.parse(source)
    found = list(full_names(tree))
    names = {id(node): name for node, name in found}
    lines = [node.lineno for node, name in found if is_global_draw(name)]
    lines += [line for line, name in imports(tree) if is_global_draw(name)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = names.get(id(node.func), "")
        method = node.func.attr if isinstance(node.func, ast.Attribute) and not name.startswith("torch.") else ""
        draws = name in TORCH_DRAWS or method in DRAWING_METHODS
        if draws and not any(keyword.arg == "generator" for keyword in node.keywords):
            lines.append(node.lineno)
        if name == "numpy.random.default_rng" and not (node.args or node.keywords):
            lines.append(node.lineno)
    return sorted(set(lines))


def unpickling(source: str) -> list[int]:
    """Lines that can run code hidden in data."""
    tree = ast.parse(source)
    lines = [line for line, name in imports(tree) if name.split(".")[0] in UNPICKLING or name in UNSAFE]
    lines += [node.lineno for node, name in full_names(tree) if name in UNSAFE]
    lines += [
        node.value.lineno for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"
    ]
    return sorted(set(lines))


def undefined(source: str) -> list[str]:
    """Names that a module reads and nothing in it defines. (Linters are silent: they take tensor shapes for names.)"""
    top = symtable.symtable(source, "module", "exec")
    tables = [top]
    for table in tables:
        tables += table.get_children()
    defined = {of.get_name() for of in top.get_symbols() if of.is_assigned() or of.is_imported() or of.is_namespace()}
    defined |= {of.get_name() for table in tables for of in table.get_symbols() if of.is_declared_global()}
    read = {
        of.get_name() for table in tables for of in table.get_symbols() if of.is_referenced() and of.is_global()
    } | {of.get_name() for of in top.get_symbols() if of.is_referenced()}
    return sorted(read - defined - {*dir(builtins), "__file__"})


def test_every_name_is_defined() -> None:
    missing = {str(path.relative_to(SOURCE)): undefined(path.read_text(encoding="utf-8")) for path in MODULES}
    assert {name: names for name, names in missing.items() if names} == {}


def test_an_undefined_name_is_caught() -> None:
    assert undefined("import os\ndef f(x):\n    return [os.path, len(x), spelt(x), Path]\n") == ["Path", "spelt"]
    assert undefined("x = y\nclass A:\n    z = x\n    def f(self): return z\n") == ["y", "z"]
    assert undefined('def f(x: "B T d") -> "B T":\n    def g():\n        return x\n    return g\n') == []


def test_there_are_modules() -> None:
    assert len(MODULES) > 15


@pytest.mark.parametrize("rule", [global_draws, unpickling])
def test_every_module_keeps_the_rule(rule: object) -> None:
    assert callable(rule)
    broken = {str(path.relative_to(SOURCE)): rule(path.read_text(encoding="utf-8")) for path in MODULES}
    assert {name: lines for name, lines in broken.items() if lines} == {}


def test_every_module_says_its_job() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    assert [str(path) for path, tree in trees.items() if not ast.get_docstring(tree)] == []


def test_no_module_has_a_vague_name() -> None:
    assert [str(path) for path in MODULES if {path.stem, path.parent.name} & VAGUE_NAMES] == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.manual_seed(0)",
        "from torch import manual_seed\n",
        "import torch as t\nt.cuda.manual_seed_all(1)",
        "import numpy as np\nnp.random.seed(0)",
        "import numpy as np\nx = np.random.rand(3)",
        "import numpy\nshuffle = numpy.random.shuffle",
        "from numpy import random\nrandom.permutation(3)",
        "from numpy.random import rand",
        "import numpy as np\nnp.random.default_rng()",
        "import random\nrandom.shuffle([1])",
        "from random import choice",
        "import torch\ntorch.randn(3)",
        "from torch import nn\nnn.init.normal_(w)",
        "from torch.nn import init\ninit.kaiming_uniform_(w, a=1)",
        "w.data.normal_(0, 1)",
        "weights[0].uniform_()",
    ],
)
def test_global_generator_is_caught(source: str) -> None:
    assert global_draws(source) != []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ng = torch.Generator().manual_seed(0)\ntorch.randn(3, generator=g)",
        "import numpy as np\nnp.random.default_rng(3).permutation(4)",
        "import numpy as np\ndef f(g: np.random.Generator): return g.normal()",
        "import numpy as np\nnp.random.Generator(np.random.Philox(3)).random()",
        "import random\nrandom.Random(3).shuffle([1])",
        "from torch import nn\nnn.init.normal_(w, generator=g)\nnn.init.zeros_(w)",
    ],
)
def test_generator_of_its_own_is_allowed(source: str) -> None:
    assert global_draws(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "import torch\ntorch.save({}, 'x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "from yaml import unsafe_load",
        "eval(text)",
    ],
)
def test_unpickling_is_caught(source: str) -> None:
    assert unpickling(source) != []


def test_safe_loading_is_allowed() -> None:
    assert unpickling("import yaml\nyaml.safe_load(x)\nmodel.eval()\nfrom safetensors.torch import load_file") == []
