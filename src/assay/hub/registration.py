"""Registers assay's classes with transformers' Auto classes, at the moment when those are imported.

assay does not import them itself: that takes seconds, and reading or writing the layout does not need them.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

CONFIGURATIONS = "transformers.models.auto.configuration_auto"
MODELS = "transformers.models.auto.modeling_auto"


class AfterImport(MetaPathFinder):
    """Runs an action, once, right after the module that it is listed under has been imported."""

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
    """Register with the modules that are imported already, and with the others when they are imported."""
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
