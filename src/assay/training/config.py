"""The configuration of a training run."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from assay.config import Config

OptimizerName = Literal["adamw", "muon"]
"""Muon takes the matrices, AdamW the rest; or AdamW takes all."""


class TrainingConfig(Config):
    """The protocol of one run; the same for all arms of a study. Lengths in tokens or steps, as the names say."""

    tokens: int = Field(327_680, gt=0)
    batch_tokens: int = Field(512, gt=0, le=2**30)
    micro_batch_tokens: int | None = Field(None, gt=0)
    """Tokens per forward pass; None means the whole batch. Gradients are accumulated over micro-batches."""
    context: int = Field(256, ge=2, le=2**30)
    order: Literal["shuffled", "sequential"] = "shuffled"
    optimizer: OptimizerName = "adamw"
    """`muon` updates the matrices inside blocks by Muon and everything else by AdamW, at one learning rate."""
    learning_rate: float = Field(3e-3, gt=0)
    schedule: Literal["constant", "cosine", "wsd"] = "cosine"
    warmup_share: float = Field(0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly."""
    warmup_tokens: int | None = Field(None, ge=0)
    """In place of that share, so many tokens, however long the run is."""
    decay_share: float = Field(0.2, ge=0, le=1)
    """Share of the steps at the end over which `wsd` falls linearly."""
    final_share: float = Field(0.1, ge=0, le=1)
    """The ratio of the last learning rate to the highest."""
    weight_decay: float = Field(0.1, ge=0)
    decay_all: bool = False
    """Apply weight decay to every parameter, gains and biases too, not only to those whose layers declare it."""
    layer_rates: bool = True
    """Apply the learning-rate factors that layers declare, such as RWKV-7's two for the base of its decay."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """The betas and epsilon are those of AdamW."""
    beta2: float = Field(0.95, ge=0, lt=1)
    epsilon: float = Field(1e-8, gt=0)
    clip_norm: float | None = Field(1.0, gt=0)
    validation_interval: int | None = Field(None, gt=0)
    """Steps between validations; None is a tenth of the run."""
    validation_tokens: int = Field(4_096, gt=0)
    stop_at_nats: float | None = Field(None, gt=0)
    """End the run at the first validation at or below it, before `tokens` are read; the schedule stays that of all."""
    weights: Literal["last", "best"] = "last"
    """What is measured: the weights after the last step, or those of the lowest validation."""
    checkpoint_interval: int | None = Field(None, gt=0)
    """Steps between checkpoints; None is a tenth of the run."""

    keep: list[int] | Literal["log"] = []
    """Steps after which a copy of the weights is stored, or `log`: after 1, 2, 4, 8, ... steps and the last."""

    branches: list[int] = []
    """Smaller budgets in tokens: with `wsd`, where the decay of each would begin, a checkpoint is kept from which a
    study goes on to it."""

    @field_validator("keep", mode="before")
    @classmethod
    def _steps_or_log(cls, keep: Any) -> Any:
        steps = keep if isinstance(keep, list) else [keep]
        if keep != "log" and any(type(step) is not int or step < 1 for step in steps):
            raise ValueError("steps from 1 on, as [100, 1000], or log would do")
        return keep if keep == "log" else steps

    @model_validator(mode="after")
    def _batch_holds_windows(self) -> "TrainingConfig":
        batch, micro, context = self.batch_tokens, self.micro_batch_tokens, self.context
        _refuse_remainder("--batch-tokens", batch, f"--context {context}", context)
        if micro is not None:
            _refuse_remainder("training.micro_batch_tokens", micro, f"--context {context}", context)
            _refuse_remainder("--batch-tokens", batch, f"training.micro_batch_tokens ({micro})", micro)
        beyond = [step for step in self.kept_steps if step > self.steps]
        if beyond:
            raise ValueError(f"training.keep: {min(beyond)} given, the run has {self.steps} steps; so many would do")
        return self

    @model_validator(mode="after")
    def _branches_share_their_steps(self) -> "TrainingConfig":
        if self.branches:
            _refuse_branches(self)
        return self

    def branch(self, tokens: int) -> "TrainingConfig":
        """The same run with another budget, by itself."""
        return self.model_copy(update={"tokens": tokens, "branches": []})

    @property
    def stable_steps(self) -> int:
        """Steps before the decay of `wsd`."""
        return self.steps - round(self.decay_share * self.steps)

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises."""
        if self.warmup_tokens is not None:
            return -(-self.warmup_tokens // self.batch_tokens)
        return round(self.warmup_share * self.steps)

    @property
    def steps(self) -> int:
        """Whole batches that cover `tokens`."""
        return -(-self.tokens // self.batch_tokens)

    @property
    def batch_size(self) -> int:
        """Windows per batch."""
        return self.batch_tokens // self.context

    @property
    def kept_steps(self) -> set[int]:
        """The steps that `keep` names."""
        if self.keep != "log":
            return set(self.keep)
        return {1 << power for power in range(self.steps.bit_length())} | {self.steps}

    def interval(self, asked: int | None) -> int:
        """`asked`, or a tenth of the run."""
        return asked or max(1, self.steps // 10)


def _refuse_remainder(name: str, tokens: int, part: str, size: int) -> None:
    if tokens % size:
        multiple = max(1, tokens // size) * size
        raise ValueError(f"{name} {tokens}: must be a multiple of {part}; {multiple} would do")


def _refuse_branches(of: TrainingConfig) -> None:
    """Raise a ValueError where runs to the smaller budgets would not begin with the same steps as this one."""
    if of.schedule != "wsd":
        raise ValueError(
            f"training.branches: the schedule is {of.schedule}, whose steps depend on the end; wsd would do"
        )
    if len(set(of.branches)) != len(of.branches) or not all(0 < tokens < of.tokens for tokens in of.branches):
        raise ValueError(f"training.branches {of.branches}: budgets below --tokens {of.tokens}, each once, would do")
    for name, given, would_do in (
        ("weights", of.weights == "best", "last"),  # a branch is not validated at the same steps
        ("stop_at_nats", of.stop_at_nats is not None, "none"),
        ("keep", bool(of.keep), "none"),
    ):
        if given:
            raise ValueError(f"training.{name}: does not go with training.branches; {would_do} would do")
    for tokens in of.branches:
        branch = of.branch(tokens)
        if branch.warmup_steps != of.warmup_steps:
            raise ValueError(
                f"training.branches {tokens}: its warm-up would be {branch.warmup_steps} steps and that of --tokens "
                f"{of.tokens} is {of.warmup_steps}; training.warmup_tokens={branch.warmup_steps * of.batch_tokens} "
                "makes them one"
            )
        if branch.stable_steps < 1:
            raise ValueError(f"training.branches {tokens}: its decay begins at once; a smaller decay_share would do")
        if branch.stable_steps == branch.steps:
            raise ValueError(f"training.branches {tokens}: has no step of decay; a larger decay_share would do")
