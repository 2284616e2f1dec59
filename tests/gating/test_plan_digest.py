"""The digest of a gate's plan: it tells an edited plan, and not one of before a field was there."""

import json
from pathlib import Path

import pytest

from assay.records.gate import GatePlan, Noise


def plan() -> GatePlan:
    noise = dict.fromkeys(Noise.model_fields, 1)
    return GatePlan.model_validate(
        {
            "hypothesis": "h", "baseline": "gpt1", "candidates": ["gpt2"], "rule": {"name": "assay"}, "asked": "a",
            "config": {}, "sizes": [16_000, 32_000], "top_size": 64_000, "tokens_per_parameter": 20.0, "rates": [1e-3],
            "stages": [{"name": "judged-16k", "kind": "judged", "size": 16_000, "tokens": 320_000, "arms": ["gpt1"],
                        "seeds": [0], "flops": 1.0, "seconds": 1.0}],
            "timings": [], "noise": {**noise, "source": "a pilot"}, "slope_nats": None, "detectable_nats": None,
            "detectable_gain": None, "seconds": 1.0, "flops": 1.0, "peak_memory_bytes": None, "workers": 1,
            "inference": "inference", "machine": {}, "written": "2026-01-01T00:00:00+00:00",
        }
    )  # fmt: skip


def test_a_written_plan_keeps_its_digest(tmp_path: Path) -> None:
    sealed = plan().sealed()
    sealed.write(tmp_path / "plan.json")
    read = GatePlan.read(tmp_path / "plan.json")
    assert read.digest == read.digest_now() == sealed.digest_now()


@pytest.mark.parametrize("field", ["placebo", "control", "further"])
def test_a_plan_from_before_a_field_was_there_keeps_its_digest(tmp_path: Path, field: str) -> None:
    """As an older assay wrote it: without the field, in the file and in what was hashed."""
    values = json.loads(plan().sealed().content())
    older = {name: value for name, value in values.items() if name not in (field, "digest")}
    digest = GatePlan.model_validate(older).digest_now()
    (tmp_path / "plan.json").write_text(json.dumps({**older, "digest": digest}))
    read = GatePlan.read(tmp_path / "plan.json")
    assert read.digest_now() == digest != values["digest"], "and a field that is taken out of a file is an edit"


def test_an_edited_plan_is_told(tmp_path: Path) -> None:
    values = json.loads(plan().sealed().content())
    values["stages"][0]["seeds"] = [1]
    (tmp_path / "plan.json").write_text(json.dumps(values))
    read = GatePlan.read(tmp_path / "plan.json")
    assert read.digest_now() != read.digest
