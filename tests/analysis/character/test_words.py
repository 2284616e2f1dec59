"""What is said of an arm rests on its numbers, and differences are told only where seeds resolve them."""

import numpy as np

from assay.analysis.character.words import MOST_SENTENCES, in_words
from assay.records import Code, Column, Measured, MeasurementResult, Results


def results(growth: float, nats: float, half_life: float | None, verdict: str = "HEALTHY") -> Results:
    columns = {
        "signals": [Column(key="growth", head="growth", format="ratio", value=growth)],
        "state": [Column(key="half_life", head="half-life", format="number", value=half_life)],
        "likelihood": [Column(key="nats_per_token", head="nats", format="nats", value=nats)],
        "gradients": [Column(key="verdict", head="gradients", format="text", text=verdict)],
    }
    return {
        name: MeasurementResult(
            measurement=name, measurement_version=1, question="How?", unit="x", group="character", scope="run",
            measured=Measured(label="a"), code=Code(kind="built-in", name="assay"), values={}, columns=of,
        )
        for name, of in columns.items()
    }  # fmt: skip


def arm(growth: float, nats: float, half_life: float | None, seeds: int = 5, noise: float = 0.01) -> dict[int, Results]:
    draw = np.random.default_rng(int(growth * 1000))
    return {
        seed: results(
            growth * float(np.exp(noise * draw.standard_normal())),
            nats + noise * float(draw.standard_normal()),
            None if half_life is None else half_life * float(np.exp(noise * draw.standard_normal())),
        )
        for seed in range(seeds)
    }


def test_numbers_and_resolved_differences_are_told() -> None:
    said = in_words({"a": arm(10, 3.0, 50), "b": arm(2, 3.5, 5), "c": arm(2.01, 3.5, None)})
    assert all(1 <= len(lines) <= MOST_SENTENCES for lines in said.values())
    text = " ".join(said["a"])
    assert "Its stream grows 10x with depth" in text
    assert "Gradients HEALTHY" in text
    assert "Strengths of a: predicts better (" in text
    assert "amplifies more" in text
    assert "forgets later (" in text
    assert "Weaknesses" not in text
    other = " ".join(said["b"])
    assert "Weaknesses of b: predicts worse" in other
    assert "than a (" in other
    assert "forgets sooner" in other
    assert "than c" not in other, "2 and 2.01 are not told apart"
    assert "forgets half" not in " ".join(said["c"])


def test_what_seeds_do_not_resolve_is_not_told() -> None:
    same = in_words({"a": arm(2, 3.0, 10, noise=0.3), "b": arm(2.001, 3.0, 10, noise=0.3)})
    assert "These seeds tell a from no other arm" in same["a"][-1]
    one = in_words({"a": arm(10, 3.0, 50, seeds=1), "b": arm(2, 3.5, 5, seeds=1)})
    assert "than" not in " ".join(one["a"])
    assert "One seed tells a from no other arm" in one["a"][-1]
    alone = in_words({"a": arm(10, 3.0, 50)})
    assert not any("no other arm" in line for line in alone["a"])
