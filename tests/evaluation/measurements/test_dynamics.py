"""Spikes that are planted in losses, and what an observer sees of a model."""

import json
import math

import numpy as np
import pytest
import torch

from assay.audit.redraw import redrawn
from assay.evaluation.inside.spikes import Spike, spikes
from assay.evaluation.measurement import Measurement
from assay.evaluation.measurements.dynamics import CourseObserver, Dynamics, MeasureDynamics
from assay.evaluation.measuring import measure_model
from assay.training.config import TrainingConfig
from evaluation.small import given, tiny, windows


def falling(steps: int = 400, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    curve = 3 + 5 * np.exp(-np.arange(steps) / 60)
    return curve + noise * np.random.default_rng(seed).standard_normal(steps)


def test_planted_spikes_are_found_where_they_are() -> None:
    losses = falling()
    assert spikes(losses.tolist()) == []
    losses[200] += 1.0
    losses[300:303] += [2.0, 1.5, 0.8]
    first, second = spikes(losses.tolist())
    assert (first.first, first.steps, second.first, second.steps) == (201, 1, 301, 3)
    assert first.height_nats == pytest.approx(1.0, abs=0.3)
    assert second.height_nats == pytest.approx(2.0, abs=0.3)


def test_noise_is_rarely_taken_for_spikes() -> None:
    """In about one of 100,000 steps of normal noise, so that two in 8,000 would be far too many."""
    noise = np.random.default_rng(1).standard_normal(8_000)
    assert len(spikes(noise.tolist())) <= 1


def test_edges() -> None:
    assert spikes([]) == spikes([1.0] * 9 + [9.0]) == []
    assert spikes([1.0] * 20 + [1.04]) == [], "steady losses and a rise below 0.05 nats"
    assert spikes([1.0] * 20 + [math.nan]) == [Spike(21, 1, math.inf)]


def test_the_observer_sees_the_same_model_as_the_same() -> None:
    model = redrawn(tiny("rwkv6"), torch.Generator().manual_seed(0)).eval()
    observer = CourseObserver(400)
    assert (observer.name, observer.interval) == ("dynamics", 20)
    with torch.no_grad():
        row = observer.observe(model, 20)
        assert observer.observe(model, 40) == row
        assert json.loads(json.dumps(row)) == row
        for weight in model.sequence_blocks()[1].mixer.residual_outputs():
            weight.mul_(10)
        assert observer.observe(model, 60)["growth"] > 2 * row["growth"]
    assert row["state_rms"] > 0
    assert CourseObserver(3).observe(tiny("gpt1", max_positions=8).eval(), 1)["state_rms"] is None


def test_values_are_those_of_the_steps_and_the_course() -> None:
    losses = falling()
    losses[200] += 1
    steps = [{"nats_per_token": loss, "gradient_norm": 2.0 if step < 100 else 0.5} for step, loss in enumerate(losses)]
    course = [{"step": 20, "growth": 2.0, "growth_with_embedding": 3.0, "stream_std": 1.0, "state_rms": None}]
    of = given(
        tiny(), windows([[1, 2, 3]], 2, [0]), steps=steps, courses={"dynamics": course}, protocol=TrainingConfig()
    )
    item: Measurement[Dynamics] = MeasureDynamics()
    (values,) = measure_model([item], of)
    assert isinstance(values, Dynamics)
    assert (values.steps, len(values.spikes), values.clipped, values.gradient_norm_median) == (400, 1, 0.25, 0.5)
    assert "step 201" in item.sentences(values)[0]
    assert item.columns(values)[1].value == 4
    assert len(item.figures(values)) == len(values.course) == 1
