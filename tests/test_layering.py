"""Imports inside assay go one way only, without cycles; the packages that re-judge old runs know no torch.

Imports are read from the source, those inside functions and those for type checkers too.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

PLUGINS = {"plugins", "registry"}
ORDER = [
    {"errors", "extras", "parsing", "yaml_text", "cache"},
    {
        "config",
        "seeding",
        "targets",
        "records",
        "registry",
        "plugins",
    },
    {"analysis"},
    {"report"},
    {"verdict"},
    {"ops"},
    {"layers"},
    {"model"},
    {"data"},
    {"decoding", "step_graph", "step_products"},
    {"hub", "generation"},
    {"training"},
    {"evaluation"},
    {"audit"},
    {"study"},
    {"gating"},
    {"api"},
    {""},  # the package itself: its version and its lazy public names
    {"cli"},
    {"__main__"},
]
"""Left to right: a module imports from its own set and from those before it."""

WITHOUT_TORCH = {
    "errors",
    "extras",
    "parsing",
    "yaml_text",
    "cache",
    "config",
    "seeding",
    "targets",
    "records",
    *PLUGINS,
    "analysis",
    "report",
    "verdict",
    "data",
}

Sources = dict[str, str]
"""{dotted module name: source text}; a package stands under its own name."""


def read_sources(folder: Path) -> Sources:
    """The sources of all modules below `folder`."""
    sources = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return sources


def imported_names(module: str, source: str, known: set[str]) -> set[str]:
    """Every dotted name that `module` imports: `from a import b` means a.b where that is a known module, else a."""
    inside = any(name.startswith(f"{module}.") for name in known)
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: 1 - node.level] if node.level > 1 else module.split(".")
            base = ".".join(parents if inside else parents[:-1]) if node.level else ""
            start = ".".join(part for part in (base, node.module) if part)
            names |= {f"{start}.{a.name}" if f"{start}.{a.name}" in known else start for a in node.names}
    return names


def edges(sources: Sources) -> dict[str, set[str]]:
    """{module: the modules in `sources` that it imports}."""
    known = set(sources)
    return {module: imported_names(module, source, known) & known - {module} for module, source in sources.items()}


def rank(module: str) -> int:
    """The place of `module` in ORDER."""
    part = [*module.split("."), ""][1]
    places = [place for place, parts in enumerate(ORDER) if part in parts]
    assert places, f"{module}: not in the order; see docs/architecture.md"
    return places[0]


def wrong_edges(graph: dict[str, set[str]]) -> list[str]:
    """The edges that point to the right in ORDER."""
    return [f"{a} imports {b}" for a, targets in graph.items() for b in sorted(targets) if rank(b) > rank(a)]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of modules, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def torch_imports(sources: Sources) -> list[str]:
    """The modules of WITHOUT_TORCH that import torch."""
    return [
        module
        for module, source in sources.items()
        if [*module.split("."), ""][1] in WITHOUT_TORCH
        and any(name.split(".")[0] == "torch" for name in imported_names(module, source, set(sources)))
    ]


@pytest.fixture(scope="module")
def sources() -> Sources:
    found = read_sources(SOURCE)
    assert {"assay.errors", "assay.layers", "assay.layers.mixer"} <= set(found)
    return found


@pytest.fixture(scope="module")
def graph(sources: Sources) -> dict[str, set[str]]:
    return edges(sources)


def test_imports_go_one_way(graph: dict[str, set[str]]) -> None:
    assert wrong_edges(graph) == []


def test_no_cycle(graph: dict[str, set[str]]) -> None:
    assert cycle(graph) == []


def test_records_are_judged_without_torch(sources: Sources) -> None:
    assert torch_imports(sources) == []


def test_edges_of_known_modules_are_seen(graph: dict[str, set[str]]) -> None:
    assert "assay.errors" in graph["assay.config"]
    assert "assay.ops.execution" in graph["assay.layers.mixer"]


BASE = {"assay": "", "assay.ops": "", "assay.ops.scan": "", "assay.layers": "", "assay.layers.mixer": ""}


@pytest.mark.parametrize(
    "source",
    [
        "import assay.layers.mixer",
        "from assay.layers.mixer import SequenceLayer",
        "from assay.layers import mixer",
        "from ..layers.mixer import SequenceLayer",
        "from ..layers import mixer",
        "def late():\n    from assay.layers.mixer import SequenceLayer",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from assay.layers.mixer import SequenceLayer",
    ],
)
def test_edge_against_the_order_is_caught(source: str) -> None:
    assert wrong_edges(edges({**BASE, "assay.ops.scan": source})) == ["assay.ops.scan imports assay.layers.mixer"]
    assert wrong_edges(edges({**BASE, "assay.layers.mixer": "from assay.ops import scan"})) == []


def test_import_of_the_public_names_from_inside_is_caught() -> None:
    for source in ("import assay", "from assay import build", "from assay import ops, build"):
        assert wrong_edges(edges({**BASE, "assay.ops.scan": source})) == ["assay.ops.scan imports assay"]


def test_relative_import_in_a_package_is_resolved() -> None:
    assert edges({**BASE, "assay.ops": "from .scan import scan"})["assay.ops"] == {"assay.ops.scan"}
    assert edges({**BASE, "assay.ops": "from ..layers import mixer"})["assay.ops"] == {"assay.layers.mixer"}


def test_cycle_is_caught() -> None:
    sources = {
        **BASE,
        "assay.ops.a": "from assay.ops import scan",
        "assay.ops.scan": "def f():\n    import assay.ops.a",
    }
    assert set(cycle(edges(sources))) == {"assay.ops.a", "assay.ops.scan"}
    assert cycle(edges({**sources, "assay.ops.scan": ""})) == []


def test_module_outside_the_order_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"assay\.misc: not in the order"):
        wrong_edges(edges({**BASE, "assay.ops.scan": "import assay.misc", "assay.misc": ""}))


@pytest.mark.parametrize(
    "source", ["import torch", "def f():\n    from torch import nn", "import torch.nn.functional as F"]
)
def test_torch_among_the_records_is_caught(source: str) -> None:
    assert torch_imports({**BASE, "assay.analysis.gate": source, "assay.ops.scan": source}) == ["assay.analysis.gate"]
    assert torch_imports({**BASE, "assay.analysis.gate": "import torchless"}) == []
