"""What documents 000 and 002 say of RWKV-6, Mamba-2 and GPT-1 alone, with a view to fusing them, beside our numbers."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from assay.analysis.character.answers import AMPLIFIES, DAMPS
from assay.analysis.character.inside import Kind, Runs, inside, numbers, ratio_interval, told
from assay.analysis.statistics import LEVEL

Holds = Literal["holds", "does not hold", "unclear", "cannot be supported"]
WHY = (
    "The documents rest on one model and one seed each, without an interval; on 50 steps of 64 tokens, looked at on "
    "the text that was trained on; GPT-1 and RWKV-6 after BlinkDL's initialisation, Mamba-2 before it; an RWKV-6 with "
    "a vector state and a constant decay; and on standard deviations that are called variance."
)


MEANS = {
    "growth_without_embedding": "from the first block to the last",
    "growth_with_embedding": "from the embedding",
    "mixer_gain": "of what it reads",
}
"""What a number of `signals` is."""


class Asserted(NamedTuple):
    """A claim that is a number of one architecture above or below a limit."""

    document: str
    text: str
    architecture: str
    key: str
    """Of the record of `signals`."""
    above: bool
    limit: float


ASSERTED = (
    Asserted(
        "002", "RWKV-6 alone amplifies (5.4x from the embedding)", "rwkv6", "growth_without_embedding", True, AMPLIFIES
    ),
    Asserted("002", "Mamba may be a stabilizer", "mamba2", "growth_without_embedding", False, AMPLIFIES),
    Asserted(
        "000",
        "Mamba-2 amplifies as a model (2.0x from the embedding)",
        "mamba2",
        "growth_without_embedding",
        True,
        AMPLIFIES,
    ),
    Asserted("000", "GPT-1 amplifies (16.7x between blocks)", "gpt1", "growth_without_embedding", True, AMPLIFIES),
    Asserted("000", "GPT-1 amplifies 782x from the embedding", "gpt1", "growth_with_embedding", True, 100.0),
    Asserted("000", "Mamba-2's raw layer damps (0.005x)", "mamba2", "mixer_gain", False, DAMPS),
    Asserted("000", "RWKV-6's raw layer amplifies", "rwkv6", "mixer_gain", True, AMPLIFIES),
    Asserted("000", "GPT-1's attention amplifies", "gpt1", "mixer_gain", True, AMPLIFIES),
)
FUSION = Asserted("002", "fusing RWKV-6 with Mamba-2 may be beneficial", "", "", True, 0.0)


class Claim(NamedTuple):
    """A claim, the arm that it is tried on, our number, and what that says."""

    document: str
    text: str
    label: str
    ours: str
    holds: Holds


def claims(runs: Runs, kinds: Mapping[str, Kind]) -> list[Claim]:
    """Those of the architectures that the runs are of; intervals over seeds, of all claims together."""
    tried = [(claim, label) for claim in ASSERTED for label in runs if kinds[label].architecture == claim.architecture]
    level = 1 - (1 - LEVEL) / max(1, len(tried))
    found = [_tried(claim, label, runs, level) for claim, label in tried]
    if {"rwkv6", "mamba2"} <= {kinds[label].architecture for label in runs}:
        why = "the document fused nothing and had not measured Mamba-2; a fused model has to be trained"
        found.append(Claim(FUSION.document, FUSION.text, "", why, "cannot be supported"))
    return found


def _tried(claim: Asserted, label: str, runs: Runs, level: float) -> Claim:
    values = list(numbers(inside(runs[label], "signals"), claim.key).values())
    if not values:
        return Claim(claim.document, claim.text, label, "not measured", "unclear")
    ours = f"{told(values, '{:.3g}x', ratios=True)} {MEANS[claim.key]}; the limit is {claim.limit:g}x"
    return Claim(claim.document, claim.text, label, ours, _holds(values, claim, level))


def _holds(values: Sequence[float], claim: Asserted, level: float) -> Holds:
    found = ratio_interval(values, level)
    if found is None or found.low is None or found.high is None or found.low <= claim.limit <= found.high:
        return "unclear"
    return "holds" if (found.low > claim.limit) == claim.above else "does not hold"
