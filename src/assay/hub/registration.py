"""Makes assay's classes known to transformers' Auto classes, as soon as those are imported and not before.

Importing transformers takes seconds, and reading or writing its layout does not need it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

CONFIGURATIONS = "transformers.models.auto.configuration_auto"
MODELS = "transformers.models.auto.modeling_auto"


class AfterImport(MetaPathFinder):
    """Runs an action, once, right after a module of that name has been imported."""

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = dict(actions)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._actions or (spec := PathFinder.find_spec(fullname, path, target)) is None:
            return None
        action = self._actions.pop(fullname)
        if spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_act(module: ModuleType) -> None:
                execute(module)
                action()

            spec.loader.exec_module = execute_and_act  # type: ignore[method-assign]
        return spec


def register_with_transformers() -> None:
    """Register now with what is imported, and with the rest when it is."""
    later = {}
    for name, action in ((CONFIGURATIONS, _register_configuration), (MODELS, _register_model)):
        if name in sys.modules:
            action()
        else:
            later[name] = action
    if later:
        sys.meta_path.insert(0, AfterImport(later))


def _register_configuration() -> None:
    from assay.hub.auto_config import AssayConfig

    sys.modules[CONFIGURATIONS].AutoConfig.register(AssayConfig.model_type, AssayConfig, exist_ok=True)


def _register_model() -> None:
    from assay.hub.auto import AssayForCausalLM
    from assay.hub.auto_config import AssayConfig

    sys.modules[MODELS].AutoModelForCausalLM.register(AssayConfig, AssayForCausalLM, exist_ok=True)
