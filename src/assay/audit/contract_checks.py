"""What every registered architecture must keep besides being sound: forms, roles, initialisation, learning, storing.

Each check takes an architecture, builds its smallest model and answers with a Finding; `check_architecture` asks all.
"""

from collections.abc import Callable

import torch
from safetensors.torch import load, save
from torch import Tensor

from assay.audit import AuditReport, audit
from assay.audit.redraw import redrawn
from assay.errors import RequestError
from assay.model.accounting import without_flops
from assay.model.architecture import Architecture, assemble, build_model
from assay.model.decay_roles import decay_roles
from assay.model.lm import LanguageModel
from assay.model.plan import ops_of
from assay.model.sizing import build_on_meta, solve
from assay.ops.cross_entropy import summed_nats
from assay.ops.execution import Execution, recorded_forms
from assay.records import Finding, Status

TOKENS, ROWS = 37, 2
FORMS = (Execution("loop"), Execution("chunked", 16), Execution("chunked", 32), Execution("chunked", 64))
CLOSE = 1e-9
"""Relative to the largest logit, in float64."""
STEPS, LEARNING_RATE, LOWER_NATS = 12, 1e-2, 0.3
SIZE, VOCAB_SIZE = 1_000_000, 4096

PROMISED = {
    "parity": "`forward` must continue from every state, one token at a time too",
    "accounting": "`state_bytes` and `executed_flops` of a layer must say what is counted",
}
"""What an architecture has declared, and how to keep it."""


def smallest(architecture: Architecture, seed: int = 0) -> LanguageModel:
    """The model of the architecture's `tiny` configuration, as initialised."""
    return build_model(architecture, architecture.config.parse(architecture.tiny), seed)


def forms(architecture: Architecture) -> Finding:
    """Loop and chunked forms, at three chunk lengths, give the same logits, and each was really taken.

    An op has the forms of its table, where the layer declares it; a run's record has none that is not declared.
    """
    model = redrawn(smallest(architecture), torch.Generator().manual_seed(1)).double().eval()
    logits, taken = [], []
    for form in FORMS:
        model.set_execution(form)
        with torch.no_grad(), recorded_forms() as ran:
            logits.append(model(_ids(model)))
        taken.append(ran)
    declared = {op.name: op for op in ops_of(model)}
    if not any(taken) and not declared:
        words = "its mixers have one form only"
        return Finding(check="forms", status="skip", explanation=words)
    differ = sorted({op for ran in taken for op in ran} ^ set(declared))
    if differ:
        words = f"{', '.join(differ)}: the ops that ran are not those of the layers' `ops`, which go into records"
        return Finding(check="forms", status="fail", explanation=words)
    off = max(((other - logits[0]).abs().max() / logits[0].abs().max()).item() for other in logits[1:])
    not_taken = [
        op for form, ran in zip(FORMS, taken, strict=True) for op in ran if ran[op] != {declared[op].planned(form)}
    ]
    if not_taken:
        words = f"{', '.join(sorted(set(not_taken)))} did not run in the form that was asked for"
        return Finding(check="forms", status="fail", explanation=words)
    words = "loop and chunked forms, at chunks of 16, 32 and 64, differ by so much of the largest logit"
    return Finding(check="forms", status=_within(off, CLOSE), measured=off, threshold=CLOSE, explanation=words)


def roles(architecture: Architecture) -> Finding:
    """Every parameter has a weight-decay role, declared by the module that owns it."""
    model = smallest(architecture)
    try:
        covered = [name for name, _, _ in decay_roles(model)]
    except RequestError as error:
        return Finding(check="decay_roles", status="fail", explanation=str(error))
    missing = {name for name, _ in model.named_parameters()} - set(covered)
    words = f"{len(covered)} parameters, each with a weight-decay role"
    if missing:
        words = f"no role for {', '.join(sorted(missing))}"
    return Finding(check="decay_roles", status="fail" if missing else "pass", explanation=words)


def complete_initialisation(architecture: Architecture) -> Finding:
    """`reset_parameters` fills every parameter, with the same values for a seed."""
    model = assemble(architecture, architecture.config.parse(architecture.tiny))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    model.reset_parameters(torch.Generator().manual_seed(0))
    left = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    once, again = (smallest(architecture, 5).state_dict() for _ in range(2))
    moved = [name for name in once if not torch.equal(once[name], again[name])]
    words = "reset_parameters draws every parameter, and the same for a seed"
    if left:
        words = f"reset_parameters leaves {', '.join(left[:5])} as they were"
    elif moved:
        words = (
            f"the same seed gives other values of {', '.join(moved[:5])}: something is drawn from a global generator"
        )
    status = "fail" if left or moved else "pass"
    return Finding(check="seeded_initialisation", status=status, explanation=words)


def learning(architecture: Architecture) -> Finding:
    """Twelve steps on one batch lower its loss."""
    model = smallest(architecture)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    ids = _ids(model)
    losses = []
    for _ in range(STEPS):
        hidden, _ = model.hidden(ids[:, :-1])
        loss = summed_nats(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten()) / ids[:, 1:].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    lower = losses[0] - losses[-1]
    words = f"{STEPS} steps on one batch: {losses[0]:.2f} to {losses[-1]:.2f} nats per token"
    status = "pass" if lower > LOWER_NATS else "fail"
    return Finding(check="learning", status=status, measured=lower, threshold=LOWER_NATS, explanation=words)


def storing(architecture: Architecture) -> Finding:
    """Saved and loaded weights give the same logits to the last bit."""
    model = redrawn(smallest(architecture), torch.Generator().manual_seed(1)).eval()
    stored = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    other = assemble(architecture, architecture.config.parse(architecture.tiny)).eval()
    other.load_state_dict(load(stored))
    with torch.no_grad():
        same = torch.equal(model(_ids(model)), other(_ids(model)))
    words = "saved and loaded weights give the same logits" if same else "loaded weights give other logits"
    return Finding(check="storing", status="pass" if same else "fail", explanation=words)


def sizing(architecture: Architecture) -> Finding:
    """A million parameters can be had, within 1% as built."""
    try:
        config = solve(architecture, SIZE, "total", {"vocab_size": VOCAB_SIZE})
    except RequestError as error:
        return Finding(check="sizing", status="warn", explanation=str(error))
    built = sum(parameter.numel() for parameter in build_on_meta(architecture, config).parameters())
    words = f"--size 1M gives {built:,} parameters: width {config.d_model}, {config.n_layers} layers"
    return Finding(check="sizing", status="pass", explanation=words)


def declared_flops(architecture: Architecture) -> Finding:
    """A layer that keeps a state says what that costs: what it inherits counts matrices alone."""
    layers = without_flops(smallest(architecture))
    words = "every layer that keeps a state declares its FLOPs"
    if layers:
        words = (
            f"{', '.join(layers)} keeps a state and inherits FLOPs that count its matrices alone; `flops_per_token` "
            "should add what reading and writing the state takes: two per multiply-add, one per further multiplication"
        )
    return Finding(check="declared_flops", status="warn" if layers else "pass", explanation=words)


CHECKS: tuple[Callable[[Architecture], Finding], ...] = (
    forms,
    roles,
    complete_initialisation,
    learning,
    storing,
    sizing,
    declared_flops,
)


def check_architecture(architecture: Architecture) -> tuple[AuditReport, list[Finding]]:
    """The audit of its smallest model, and what an architecture must keep besides."""
    report = audit(smallest(architecture), fresh=True)
    return report, [*map(held, report.findings), *(check(architecture) for check in CHECKS)]


def held(finding: Finding) -> Finding:
    """An audit's finding; what it only warns of in anybody's model fails where an architecture promised it."""
    if finding.check not in PROMISED or finding.status != "warn":
        return finding
    words = f"{finding.explanation}; {PROMISED[finding.check]}"
    return finding.model_copy(update={"status": "fail", "explanation": words})


def _ids(model: LanguageModel) -> Tensor:
    return torch.randint(model.vocab_size, (ROWS, TOKENS), generator=torch.Generator().manual_seed(3))


def _within(measured: float, threshold: float) -> Status:
    return "pass" if measured <= threshold else "fail"
