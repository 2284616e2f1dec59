"""Each check of the documents passes on a sound model and fails on one that is made to fail it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.audit.redraw import redrawn
from assay.evaluation.inside import shared
from assay.evaluation.measurement import Measurement
from assay.evaluation.measurements.document_checks import Check, DocumentChecks, MeasureDocumentChecks, in_words
from assay.evaluation.measurements.gradients import Gradients, MeasureGradients
from assay.evaluation.measurements.state import MeasureState, States
from assay.evaluation.measuring import measure_model
from assay.model.architecture import ARCHITECTURES
from assay.model.lm import LanguageModel
from evaluation.small import PLAN, given, tiny, windows

NAMES = ["S0", "S1", "S2", "S3", "S4", "G1", "G2", "G3", "G3.5", "G3.5 saturation", "G4"]


def checks(
    model: LanguageModel, initial: LanguageModel | None = None, rows: int = 4, tokens: int = 16, **changes: Any
) -> dict[str, Check]:
    draw = np.random.default_rng(0)
    batch = windows([list(draw.integers(0, 61, tokens + 1)) for _ in range(rows)], tokens, range(rows))
    models = {"trained": lambda: model} | ({} if initial is None else {"initial": lambda: initial})
    item: Measurement[DocumentChecks] = MeasureDocumentChecks()
    (values,) = measure_model([item], given(model, batch, models=models, **changes))
    assert isinstance(values, DocumentChecks)
    return {check.name: check for check in values.checks}


def varied(name: str, seed: int = 0) -> LanguageModel:
    return redrawn(tiny(name), torch.Generator().manual_seed(seed))


def fails(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.verdict == "FAIL"}


@pytest.mark.parametrize("name", ["gpt1", "rwkv6", "twin"])
def test_a_sound_model_passes_what_applies(name: str) -> None:
    found = checks(varied(name), tiny(name))
    assert list(found) == (NAMES if name != "gpt1" else [of for of in NAMES if "saturation" not in of])
    passed = {of for of, check in found.items() if check.verdict == "PASS"}
    assert {"S0", "S2", "S3", "G1", "G2"} <= passed
    missing = {of for of, check in found.items() if check.verdict == "NOT APPLICABLE"}
    expected = {"gpt1": {"S1", "S4", "G3.5", "G4"}, "rwkv6": {"S4", "G4"}, "twin": set()}
    assert missing == expected[name]
    assert all(found[of].why for of in missing)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES.names() if "gpt2ish-" not in name])
def test_states_are_of_the_declared_size_in_bfloat16_too(name: str) -> None:
    found = checks(varied(name), None, 2, 5, plan=PLAN.model_copy(update={"precision": "bfloat16"}))
    assert found["S0"].verdict == found["S3"].verdict == "PASS"
    assert found["G2"].verdict == found["G3"].verdict == "NOT APPLICABLE"


def test_planted_faults_are_found() -> None:
    broken = varied("rwkv6")
    with torch.no_grad():
        broken.head_weight[0] = torch.inf
    assert "G1" in fails(checks(broken))

    large = varied("rwkv6")
    with torch.no_grad():
        for block in large.sequence_blocks():
            dict(block.mixer.named_parameters())["value.weight"].mul_(1e6)
    found = checks(large)
    assert {"S1", "G3.5 saturation"} <= fails(found)

    sure = varied("gpt1")
    with torch.no_grad():
        sure.norm.get_parameter("weight").mul_(100)
    assert "G2" in fails(checks(varied("gpt1"), sure))
    assert "G3" in fails(checks(sure, tiny("gpt1"))), "its loss rose"


def test_a_state_that_ignores_its_input_fails() -> None:
    model = varied("rwkv6")

    def constant(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (torch.ones_like(args[0]),)

    handles = [norm.register_forward_pre_hook(constant) for block in model.sequence_blocks()
               for norm in (block.mixer_norm, block.channel_mixer_norm) if norm is not None]  # fmt: skip
    found = checks(model)
    assert "S2" in fails(found)
    for handle in handles:
        handle.remove()


def test_one_component_without_a_say_fails_its_balance() -> None:
    model = varied("twin")
    with torch.no_grad():
        for block in model.sequence_blocks():
            mixer = dict(block.mixer.named_parameters())
            mixer["fusion.decide.bias"].copy_(torch.tensor([8.0, -8.0]))
            mixer["fusion.decide.weight"].zero_()
            mixer["rwkv.value.weight"].mul_(300)
    found = checks(model)
    assert {"S4", "G4"} <= fails(found)


def test_words() -> None:
    verdicts = {"S0": "PASS", "S1": "FAIL", "S4": "NOT APPLICABLE", "G3.5": "WARN"}
    values = DocumentChecks.model_validate({
        "checks": [{"name": n, "asks": "a", "value": 0.5, "limits": "1", "verdict": v} for n, v in verdicts.items()]
    })  # fmt: skip
    assert in_words(values) == "1 of 3 pass: S1 fail, G3.5 warn"
    assert len(MeasureDocumentChecks().sentences(values)) == 2


def test_states_and_gradients_are_read_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks' numbers are those of `state` and `gradients`, by the smaller protocol too."""
    read: list[str] = []
    for name in ("measure_states", "measure_gradients"):
        whole = getattr(shared, name)
        monkeypatch.setattr(shared, name, lambda *of, name=name, whole=whole: (read.append(name), whole(*of))[1])
    draw, model = np.random.default_rng(0), varied("rwkv6")
    batch = windows([list(draw.integers(0, 61, 9)) for _ in range(20)], 8, range(20))
    items = [MeasureDocumentChecks(), MeasureGradients(), MeasureState()]
    for quick, sequences, number in ((False, 8, 16), (True, 4, 8)):
        read.clear()
        asked, gradients, states = measure_model(items, given(model, batch, quick=quick))
        assert sorted(read) == ["measure_gradients", "measure_states"]
        assert isinstance(asked, DocumentChecks)
        assert isinstance(gradients, Gradients)
        assert isinstance(states, States)
        assert gradients.trained is not None
        assert states.trained is not None
        assert (states.trained.sequences, gradients.trained.batches) == (sequences, number)
        (static,) = (check for check in asked.checks if check.name == "G3.5")
        assert static.value == max(part.next_cosine or 0 for part in states.trained.parts)
