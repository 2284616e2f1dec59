"""Which two to fuse follows from the rules; where intervals do not tell, nothing is recommended."""

from analysis.character.made_up import arm, contribution
from assay.analysis.character.claims import claims
from assay.analysis.character.fusion import fusion_pairs, in_short
from assay.analysis.character.inside import Kind

KINDS = {"a": Kind("rwkv6", "own"), "b": Kind("mamba2", "own"), "c": Kind("gpt1", "own")}


def test_two_of_three_reasons_recommend_and_none_does_not() -> None:
    runs = {"a": arm(3.0, 50.0), "b": arm(1.0, 5.0), "c": arm(1.0, 5.0, noise=0.0)}
    found = {(pair.a, pair.b): pair for pair in fusion_pairs(runs, KINDS)}
    assert found["a", "b"].advice == "fuse"
    assert {name: of.outcome for name, of in found["a", "b"].rulings.items()} == {
        "steadier": "yes", "memory": "yes", "tokens": "unclear", "balance": "yes",
    }  # fmt: skip
    assert "Steadier: yes (3x and 1x)" in found["a", "b"].sentence
    alike = {"b": arm(1.0, 5.0, tokens=(2.0, 3.0)), "c": arm(1.0, 5.0, tokens=(2.5, 3.5))}
    (pair,) = fusion_pairs(alike, KINDS)
    assert pair.advice == "do not fuse"
    assert in_short([pair]) == "Do not fuse b with c."


def test_noise_and_single_seeds_recommend_nothing() -> None:
    for more in ({"seeds": 1}, {"noise": 2.0}):
        (pair,) = fusion_pairs({"a": arm(3.0, 50.0, **more), "b": arm(1.4, 40.0, **more)}, KINDS)  # type: ignore[arg-type]
        assert pair.advice == "no recommendation"
    assert in_short([pair]) == "No recommendation for this pair."


def test_halves_share_an_initialisation_differ_in_architecture_and_are_not_fused() -> None:
    runs = {"a": arm(), "b": arm()}
    assert fusion_pairs(runs, {"a": Kind("rwkv6", "own"), "b": Kind("rwkv6", "own")}) == []
    assert fusion_pairs(runs, {"a": Kind("rwkv6", "own"), "b": Kind("mamba2", "blinkdl")}) == []
    share = [{"path": "rwkv6", "kind": "mean", "share": 0.5}]
    fused = {seed: {**of, "contribution": contribution(0.5, 0.2, share)} for seed, of in arm().items()}
    assert fusion_pairs({"a": arm(), "b": fused}, KINDS) == []


def test_claims_are_tried_on_the_arms_of_their_architecture() -> None:
    found = {(of.text.split(" (")[0], of.label): of.holds for of in claims({"a": arm(3.0), "b": arm(1.0)}, KINDS)}
    assert found["RWKV-6 alone amplifies", "a"] == "holds"
    assert found["Mamba may be a stabilizer", "b"] == "holds"
    assert found["Mamba-2 amplifies as a model", "b"] == "does not hold"
    assert found["Mamba-2's raw layer damps", "b"] == "unclear"
    assert found["fusing RWKV-6 with Mamba-2 may be beneficial", ""] == "cannot be supported"
    (single, *_) = claims({"a": arm(3.0, seeds=1)}, KINDS)
    assert single.holds == "unclear"
