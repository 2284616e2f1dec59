"""The sentences that must be read before the table of a study: what it can and cannot show."""

from collections.abc import Mapping, Sequence

from assay.records import Arm, ArmAudit, Floor, Pair

COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER = 20
"""Hoffmann et al. 2022, table 3."""
BODIES = {
    "native": "Body native: each architecture as published, so norm, channel mixer, positions and initialisation "
    "differ along with the mixer.",
    "common": "Body common: norm, SwiGLU and tying are shared; only the mixer differs.",
}


def headline(
    arms: Sequence[Arm],
    pairs: Sequence[Pair],
    floors: Mapping[str, Floor],
    not_ranked_because: str | None,
    tokens_per_parameter: float,
    body: str,
    broken_chains: Mapping[str, int],
    audits: Sequence[ArmAudit] = (),
) -> list[str]:
    """`body` is a key of BODIES; `broken_chains`: architecture -> runs that were resumed elsewhere."""
    lines = [_tokens(tokens_per_parameter), "Every arm: one learning rate, untuned.", BODIES[body]]
    lines += _audited(arms, audits)
    if not_ranked_because is not None:
        lines.append(f"Not ranked: {not_ranked_because}.")
    lines += [
        f"{arm.architecture}: {arm.diverged} of {len(arm.seeds)} diverged, so it is not ranked."
        for arm in arms
        if arm.diverged and arm.unsound is None
    ]
    lines += [
        f"{name}: {count} run{'s' if count > 1 else ''} resumed on another set-up, so not bit for bit."
        for name, count in broken_chains.items()
        if count
    ]
    if max(len(arm.seeds) for arm in arms) == 1:
        lines.append("One seed: nothing is resolved.")
    elif pairs and not_ranked_because is None:
        lines.append(_resolved(pairs))
    return lines + _under_floors(arms, floors)


def _audited(arms: Sequence[Arm], audits: Sequence[ArmAudit]) -> list[str]:
    """Which arms were audited and are sound; those that are not, and why."""
    lines = [f"UNSOUND: {arm.architecture} is not ranked: {arm.unsound}." for arm in arms if arm.unsound is not None]
    sound = [arm.architecture for arm in arms if arm.unsound is None]
    audited = [name for name in sound if any(audit.architecture == name for audit in audits)]
    moments = [moment for moment in ("before", "after") if any(audit.moment.startswith(moment) for audit in audits)]
    if audited:
        lines.append(f"Audited {join_names(moments)} training: {join_names(audited)} sound.")
    return lines


def join_names(names: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _tokens(per_parameter: float) -> str:
    start = f"{per_parameter:.3g} training tokens per parameter"
    if per_parameter >= COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER:
        return f"{start}."
    optimum = f"about {COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER} are compute-optimal (Hoffmann et al. 2022)"
    return f"{start} (this ranks early learning); {optimum}."


def _resolved(pairs: Sequence[Pair]) -> str:
    resolved = sum(pair.resolved for pair in pairs)
    if resolved == len(pairs):
        return "The one pair is resolved." if len(pairs) == 1 else f"All {len(pairs)} pairs are resolved."
    if resolved == 0:
        return "No pair is resolved: the order may be chance."
    return f"Resolved: {resolved} of {len(pairs)} pairs; the order within the others may be chance."


def _under_floors(arms: Sequence[Arm], floors: Mapping[str, Floor]) -> list[str]:
    """Arms that a model without a network beats: they learnt less than counting does."""
    lines = []
    for arm in arms:
        if arm.unsound is not None:
            continue
        nats = arm.test.nats_per_token.mean if arm.test else None
        better = [name for name, floor in floors.items() if nats is not None and floor.nats_per_token < nats]
        if better:
            lines.append(f"{arm.architecture} does not beat the {join_names(better)} floor{'s' * (len(better) > 1)}.")
    return lines
