"""The table of each op's forms: what runs, what it needs of the machine, and which form a call takes.

An op is registered where it is written, by one `register(Op(...))`; OPS finds those of this package and those that
plug-ins bring. The execution plan chooses among an op's forms (assay.model.plan), a layer names the ops that it calls
(`Layer.ops`), and nobody else asks which form runs.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.errors import RequestError
from assay.ops.execution import Execution, Form, note_form
from assay.registry import Registry

BEST_FIRST: tuple[Form, ...] = ("kernel", "chunked", "loop")


@dataclass(frozen=True)
class Needs:
    """What a form needs; nothing unless said: kinds of devices, packages to import, precisions of activations."""

    devices: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()

    def unmet(self, device: str, precision: str) -> str | None:
        """What is missing on a `device` of this kind in this precision, in words; None where it can run."""
        if self.devices and device not in self.devices:
            return f"needs {' or '.join(self.devices)}"
        if self.precisions and precision not in self.precisions:
            return f"needs {' or '.join(self.precisions)}"
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        return f"needs {', '.join(absent)} installed" if absent else None


@dataclass(frozen=True)
class Implementation:
    """One form of an op: `run(execution, *inputs)`, all forms with the same inputs and results."""

    run: Callable[..., Any]
    needs: Needs = Needs()


@dataclass(frozen=True)
class Op:
    """An op by name and its forms, one of which at least needs nothing.

    `one_token` is the form that a single token takes whatever the plan says, None where it takes the plan's.
    """

    name: str
    forms: Mapping[Form, Implementation] = field(compare=False)
    one_token: Form | None = None

    def planned(self, execution: Execution) -> Form:
        """The form of `execution`; of an op that has no such form, the best that needs nothing."""
        form = execution.form_of(self.name)
        return form if form in self.forms else self._everywhere()[0]

    def _everywhere(self) -> list[Form]:
        """The forms that need nothing, best first."""
        return [form for form in BEST_FIRST if form in self.forms and self.forms[form].needs == Needs()]

    def form(self, execution: Execution, tokens: int) -> Form:
        """The form that a call of `tokens` tokens takes."""
        return self.planned(execution) if tokens != 1 or self.one_token is None else self.one_token

    def run(self, execution: Execution, tokens: int, *inputs: object) -> Any:
        """Run that form."""
        form = self.form(execution, tokens)
        note_form(self.name, form)
        return self.forms[form].run(execution, *inputs)

    def choose(self, wished: Form, device: str, precision: str) -> tuple[Form, str | None]:
        """The wished form where it can run, else the best that can, and then why not the wished one.

        `device` is a kind, as "cuda"; one form of every op, its definition, needs nothing.
        """
        why: str | None = "has no such form"
        if wished in self.forms:
            why = self.forms[wished].needs.unmet(device, precision)
        if why is None:
            return wished, None
        can = (f for f in BEST_FIRST if f in self.forms and self.forms[f].needs.unmet(device, precision) is None)
        return next(can), why


OPS: Registry[Op] = Registry("op", "assay.ops")


def register(op: Op) -> Op:
    """Add an op to OPS; one without a form that runs everywhere is a RequestError."""
    if not op._everywhere():
        raise RequestError(f"op {op.name}: every form needs something; one that runs everywhere, its loop, would do")
    return OPS.register(op.name, op)
