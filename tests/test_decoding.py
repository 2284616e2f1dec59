"""The decoder: after a prompt, each step gives the logits of the parallel form, with a graph and without."""

import itertools
from functools import cache

import pytest
import torch
from torch import Tensor

from assay.audit.redraw import redrawn
from assay.decoding import Decoder
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.step_graph import own, write

PROMPT, TOKENS = 5, 24
NAMES = [
    item.name for item in ARCHITECTURES if item.unsound is None and not item.name.startswith(("gpt2ish-", "s-gpt2ish"))
]


@cache
def make(name: str) -> LanguageModel:
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(architecture.tiny), seed=1).double()
    return redrawn(model, torch.Generator().manual_seed(2)).eval()


def ids_of(model: LanguageModel, rows: int, seed: int) -> Tensor:
    return torch.randint(model.vocab_size, (rows, TOKENS), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def decoded(decoder: Decoder, ids: Tensor) -> Tensor:
    """The logits [B, T - PROMPT + 1, V] of the prompt's last token and of every token after it."""
    logits = [decoder.start(ids[:, :PROMPT])]
    logits += [decoder.step(ids[:, place]) for place in range(PROMPT, ids.shape[1])]
    return torch.stack(logits, 1)


def assert_as_in_parallel(model: LanguageModel, decoder: Decoder, ids: Tensor) -> None:
    with torch.no_grad():
        expected = model(ids)[:, PROMPT - 1 :]
    got = decoded(decoder, ids)
    assert ((got - expected).abs().max() / expected.abs().max()).item() < 1e-9
    assert decoder.position == ids.shape[1]


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_the_parallel_form(name: str) -> None:
    model = make(name)
    decoder = Decoder(model, 2, TOKENS)
    for seed in (3, 4):
        assert_as_in_parallel(model, decoder, ids_of(model, 2, seed))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_fixed_state_is_the_same_state(name: str) -> None:
    """Step by step on tensors whose shapes stay; what a graph is made of, without the compiler."""
    model = make(name)
    ids = ids_of(model, 2, 3)
    expected = model(ids)
    state = model.fixed_state(model.hidden(ids[:, :PROMPT], model.initial_state(2, TOKENS))[1], TOKENS)
    state = own(state, {})
    for place in range(PROMPT, TOKENS):
        logits, after = model.step(ids[:, place], state)
        write(state, after)
        assert ((logits - expected[:, place]).abs().max() / expected.abs().max()).item() < 1e-9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # what inductor itself imports
@pytest.mark.parametrize("name", NAMES)
def test_compiled_steps_are_the_parallel_form(name: str) -> None:
    model = make(name)
    lines: list[str] = []
    decoder = Decoder(model, 1, TOKENS, compiled=True, tell=lines.append)
    for seed in (3, 4):
        assert_as_in_parallel(model, decoder, ids_of(model, 1, seed))
    assert (decoder.compiled, lines) == (True, [])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # what inductor itself imports
def test_two_compiled_decoders_do_not_meet() -> None:
    models = make("gpt1"), make("gpt2")
    decoders = [Decoder(model, 1, TOKENS, compiled=True) for model in models]
    for seed, (model, decoder) in itertools.product((3, 4), zip(models, decoders, strict=True)):
        assert_as_in_parallel(model, decoder, ids_of(model, 1, seed))
        assert decoder.compiled


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # what inductor itself imports
def test_a_compiled_decoder_reads_each_prompt_with_the_weights_of_then() -> None:
    model = redrawn(make("gpt1"), torch.Generator().manual_seed(5))
    decoder = Decoder(model, 1, TOKENS, compiled=True)
    for seed in (3, 4):
        assert_as_in_parallel(model, decoder, ids_of(model, 1, seed))
        for parameter in model.parameters():
            parameter.data.mul_(0.5)


def test_without_a_compiler_a_line_and_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    model, lines = make("gpt1"), list[str]()
    decoder = Decoder(model, 1, TOKENS, compiled=True, tell=lines.append)
    assert_as_in_parallel(model, decoder, ids_of(model, 1, 3))
    assert not decoder.compiled
    assert lines == ["decoding: no C++ compiler found; running without compiling"]


def test_a_state_that_cannot_be_fixed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a layer would have it that counts and says nothing of `fixed_state`."""
    model, lines = make("gpt1"), list[str]()
    monkeypatch.setattr(type(model.sequence_blocks()[0].mixer), "fixed_state", lambda *given: given[1])
    decoder = Decoder(model, 1, TOKENS, compiled=True, tell=lines.append)
    assert_as_in_parallel(model, decoder, ids_of(model, 1, 3))
    assert not decoder.compiled
    assert len(lines) == 1
    assert "a state holds 5, which is no tensor" in lines[0]


def test_a_state_that_grows_is_refused() -> None:
    model = make("gpt1")
    state = model.initial_state(1, 4)
    with pytest.raises(ValueError, match="it has no fixed shape"):
        write(state, model.initial_state(1, 5))


@pytest.mark.parametrize(
    ("rows", "tokens", "message"),
    [(1, 3, "1 rows given; the decoder has 2"), (2, 9, "9 tokens given; the decoder has room for 8")],
)
def test_no_room(rows: int, tokens: int, message: str) -> None:
    decoder = Decoder(make("gpt1"), 2, 8)
    with pytest.raises(ValueError, match=message):
        decoder.start(torch.zeros(rows, tokens, dtype=torch.long))
    decoder.start(torch.zeros(2, 8, dtype=torch.long))
    with pytest.raises(ValueError, match="9 tokens given"):
        decoder.step(torch.zeros(2, dtype=torch.long))


def test_no_learned_positions_left() -> None:
    model = make("gpt1")
    assert model.max_positions is not None
    decoder = Decoder(model, 1, 10 * model.max_positions)
    decoder.start(torch.zeros(1, model.max_positions, dtype=torch.long))
    with pytest.raises(ValueError, match=r"the model has \d+ learned positions"):
        decoder.step(torch.zeros(1, dtype=torch.long))
