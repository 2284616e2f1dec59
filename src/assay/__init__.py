"""assay decides, with evidence, whether a sequence-model architecture deserves to be scaled.

The public names are imported when first used, so that `import assay` is quick and needs no torch.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.api import build as build
    from assay.api import compare as compare
    from assay.api import gate as gate
    from assay.api import measure as measure
    from assay.audit.full import audit as audit
    from assay.model.architecture import register as register

__version__ = "0.1.0"

# Torch's idle threads spin for a while before they sleep. On cores that something else uses too, the default spin
# makes small models ten times slower; a short one costs nothing. It must be set before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_HOMES = {
    "audit": "assay.audit.full",
    "build": "assay.api",
    "compare": "assay.api",
    "gate": "assay.api",
    "measure": "assay.api",
    "register": "assay.model.architecture",
}

__all__ = ["__version__", "audit", "build", "compare", "gate", "measure", "register"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'assay' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
