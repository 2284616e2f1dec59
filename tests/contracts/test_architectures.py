"""Every registered architecture passes the checks that `assay check` makes of a user's architecture.

`pytest tests/contracts -k NAME` checks one. A failure is a sentence that says what is missing. Architectures of one
recipe, which differ only in default dimensions, are represented by the first of them: their smallest models are the
same model (which is tested too).
"""

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch

import assay
from assay.audit import quick_audit
from assay.audit.contract.architecture import CHECKS, IF_SOUND, Check
from assay.audit.contract.gradients import token_gradients
from assay.audit.contract.models import FORMS, ids_for, smallest, smallest_redrawn
from assay.errors import RequestError
from assay.model.accounting import executed_flops
from assay.model.architecture import ARCHITECTURES, Architecture
from assay.model.contract import check_contract
from assay.plugins.blame import described

Answer = TypeVar("Answer")

HELD_TO_MORE = (
    *("gpt1", "gpt2", "transformer++", "sliding-window", "rwkv6", "rwkv7", "mamba2"),
    *("delta-net", "gated-delta-net", "hybrid", "twin", "groundthink"),
)
"""Architectures that must keep more than others: no check is skipped or warns, and they declare executed FLOPs."""


def recipe(architecture: Architecture) -> list[object]:
    """What the smallest model is made from: the functions that make layers and norms, and all dimensions."""
    config = architecture.config.parse({**architecture.tiny, "dropout": 0.0})
    layers = [architecture.mixer, architecture.channel_mixer, architecture.norm, architecture.embedding_norm]
    return [*layers, config.model_dump(), architecture.max_positions(config), architecture.unsound]


def represented() -> dict[str, str]:
    """{architecture: its representative}, the first architecture of the same recipe; for most, itself."""
    recipes = {item.name: recipe(item) for item in ARCHITECTURES}
    return {name: next(first for first in recipes if recipes[first] == recipes[name]) for name in recipes}


REPRESENTATIVES = represented()
DISTINCT = [name for name, first in REPRESENTATIVES.items() if name == first]


def answer(name: str, ask: Callable[[Architecture], Answer]) -> Answer:
    """What `ask` says of the architecture; what it raises is a failure of one sentence, with file and line."""
    if ask is not check_contract and not can_be_built(name):
        pytest.skip("it cannot be built, as the contract says")
    try:
        return ask(ARCHITECTURES.get(name))
    except RequestError as error:
        said = str(error)
    except Exception as error:
        said = f"{line_of(error)}: {described(error)}"
    pytest.fail(f"{name}: {ask.__name__.replace('_', ' ')}: {said}", pytrace=False)


@functools.cache
def can_be_built(name: str) -> bool:
    """Else one test says why it cannot, and not every one of them."""
    try:
        smallest(ARCHITECTURES.get(name))
    except Exception:
        return False
    return True


def line_of(error: Exception) -> str:
    """The last line of ours that an error went through."""
    ours = Path(assay.__file__).parent
    frame = [frame for frame in traceback.extract_tb(error.__traceback__) if ours in Path(frame.filename).parents][-1]
    return f"{frame.filename}: line {frame.lineno}"


@pytest.mark.parametrize("name", DISTINCT)
def test_its_layers_keep_what_a_plug_in_is_held_to(name: str) -> None:
    """Before a verb works with it: shapes, types, a state that continues, a role for every parameter."""
    answer(name, check_contract)


ASKED = [
    pytest.param(name, check, id=f"{name}-{check.__name__}")
    for name in DISTINCT
    for check in CHECKS
    if ARCHITECTURES.get(name).unsound is None or check not in IF_SOUND
]


@pytest.mark.parametrize("name", HELD_TO_MORE)
def test_who_is_held_to_more_reads_the_past_everywhere_and_nothing_of_the_future(name: str) -> None:
    """At several positions, in both forms: exactly nothing of later tokens in the loop."""
    model = smallest_redrawn(ARCHITECTURES.get(name)).double()
    for form in FORMS[:2]:
        for t, size in token_gradients(model, form):
            where = f"{name}, {form.form} form, position {t}"
            assert size[t] > 1e-6, f"1. {where}: its own token does not matter"
            assert t == 0 or size[:t].max() > 1e-9, f"2. {where}: no earlier token matters"
            later = size[t + 1 :].max().item() if t + 1 < len(size) else 0.0
            allowed = 0.0 if form.form == "loop" else 1e-10 * size[: t + 1].max().item()
            assert later <= allowed, f"3. {where}: a later token matters"


@pytest.mark.parametrize(("name", "check"), ASKED)
def test_it_keeps_what_assay_check_asks(name: str, check: Check) -> None:
    """The numbers in a failure's message are those in the check's docstring."""
    found = answer(name, check)
    told = f"{name}: {found.check.replace('_', ' ')}: {found.explanation}"
    if found.status == "fail":
        pytest.fail(told, pytrace=False)
    if name in HELD_TO_MORE and found.status != "pass":
        pytest.fail(f"{told} ({found.status}; {name} is held to more: HELD_TO_MORE in this file)", pytrace=False)


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
def test_the_audit_of_a_study_tells_the_sound_from_the_unsound(name: str, trained: bool) -> None:
    def audit_of(architecture: Architecture) -> list[str]:
        report = quick_audit(smallest(architecture), trained, max_length=70)
        failed = [finding for finding in report.findings if finding.status == "fail" and not report.sound]
        return [". ".join(filter(None, (f"{f.check}: {f.explanation}", f.where))) for f in failed]

    found, unsound = answer(name, audit_of), ARCHITECTURES.get(name).unsound
    if found and unsound is None:
        pytest.fail(f"{name} is unsound, and does not say so: {'; '.join(found)}", pytrace=False)
    if unsound is not None and not found:
        pytest.fail(f"{name} says that it is unsound ({unsound}), and no leak is found", pytrace=False)


@pytest.mark.parametrize("name", HELD_TO_MORE)
def test_who_is_held_to_more_declares_executed_flops(name: str) -> None:
    """1. Executed FLOPs are declared, and 2. by name those that torch does not count.

    The check `accounting` compares them with what torch counts.
    """
    declared = executed_flops(smallest(ARCHITECTURES.get(name)), 23)
    assert declared is not None, f"1. {name}: a layer's executed_flops is None"
    assert declared.uncounted, f"2. {name}: no layer names what torch does not count"
    assert all(count > 0 for count in declared.uncounted.values()), f"2. {name}: {declared.uncounted}"


def test_a_represented_architecture_is_its_representative() -> None:
    """1. Both have the same parameters, and 2. with the same weights the same logits in every form."""
    assert REPRESENTATIVES["gpt2ish"] == REPRESENTATIVES["gpt2"]
    for name, first in REPRESENTATIVES.items():
        if name == first:
            continue
        model, other = (smallest_redrawn(ARCHITECTURES.get(one), {"dropout": 0.0}) for one in (name, first))
        shapes = [[(n, p.shape) for n, p in one.named_parameters()] for one in (model, other)]
        assert shapes[0] == shapes[1], f"1. {name} has other parameters than {first}"
        for form in FORMS:
            model.set_execution(form)
            other.set_execution(form)
            with torch.no_grad():
                same = torch.equal(model(ids_for(model)), other(ids_for(other)))
            assert same, f"2. {name} gives other logits than {first} in {form}"
