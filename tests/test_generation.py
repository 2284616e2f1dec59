"""Generation: greedy tokens equal the argmax of full forward passes, rows are independent, the state does not grow."""

import gc
import itertools
import math
from collections.abc import Callable, Generator, Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.audit.redraw import redrawn
from assay.data.text.tokenizer import Tokenizer, build_tokenizer
from assay.errors import RequestError
from assay.generation import Sampler, TextStream, generate, room
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel, ModelState

V = 61
PROMPTS = [[5, 9, 33], [7], [5, 9, 33, 12, 60, 1, 0], [41, 3, 3]]

SOUND = [
    item.name for item in ARCHITECTURES if item.unsound is None and not item.name.startswith(("gpt2ish-", "s-gpt2ish"))
]


@cache
def make(name: str) -> LanguageModel:
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(architecture.tiny), seed=1).double()
    return redrawn(model, torch.Generator().manual_seed(2)).eval()


def run(model: LanguageModel, prompts: Sequence[Sequence[int]], *more: object, **named: object) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in prompts]
    for made in generate(model, prompts, *more, **named):  # type: ignore[arg-type]
        rows[made.row].append(made.token)
    return rows


@pytest.fixture
def gpt1() -> LanguageModel:
    return make("gpt1")


@pytest.fixture
def mamba2() -> LanguageModel:
    return make("mamba2")


@pytest.mark.parametrize("name", SOUND)
def test_greedy_in_a_batch_is_the_argmax_of_full_forwards_alone(name: str) -> None:
    model = make(name)
    expected = []
    with torch.no_grad():
        for prompt in PROMPTS[:3]:
            ids = list(prompt)
            for _ in range(3):
                ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
            expected.append(ids[len(prompt) :])
    assert run(model, PROMPTS[:3], 3) == expected


@pytest.mark.parametrize("name", ["gpt1", "rwkv6"])
def test_sampling_is_the_same_alone_and_in_a_batch(name: str) -> None:
    model, sampler = make(name), Sampler(1.5, top_k=40, top_p=0.95)
    together = run(model, PROMPTS, 5, sampler, seed=3)
    assert together == [run(model, [prompt], 5, sampler, seed=3)[0] for prompt in PROMPTS]
    assert together != run(model, PROMPTS, 5, sampler, seed=4)


def test_a_repeated_prompt_is_drawn_anew(gpt1: LanguageModel) -> None:
    first, other, second = run(gpt1, [[5, 9], [7], [5, 9]], 20, Sampler(1.0))
    assert first == run(gpt1, [[5, 9]], 20, Sampler(1.0))[0]
    assert first != second
    assert len(other) == 20


def test_prompts_of_very_different_length_are_the_same_in_groups(gpt1: LanguageModel) -> None:
    """A prompt longer than another by more than what is asked for is a batch of its own."""
    prompts = [[3] * 40, [5, 9], [3] * 39, [8]]
    assert run(gpt1, prompts, 4) == [run(gpt1, [prompt], 4)[0] for prompt in prompts]


def test_a_row_stops_after_the_end_and_the_others_go_on(mamba2: LanguageModel) -> None:
    free = run(mamba2, PROMPTS, 8)
    end = free[0][4]
    stopped = run(mamba2, PROMPTS, 8, end=end)
    assert stopped == [row[: row.index(end) + 1] if end in row else row for row in free]
    assert len(stopped[0]) < 8
    assert {len(row) for row in stopped} != {len(stopped[0])}
    last = [made.row for made in generate(mamba2, PROMPTS, 8, end=end) if made.last]
    assert sorted(last) == list(range(len(PROMPTS)))


def state_tensors(state: object) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [t for part in state for t in state_tensors(part)] if isinstance(state, tuple) else []


def watch_steps(monkeypatch: pytest.MonkeyPatch, look: Callable[[object], object]) -> None:
    """Call `look` with the state after each step."""
    step = LanguageModel.step

    def watched(self: LanguageModel, ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        logits, state = step(self, ids, state)
        look(state)
        return logits, state

    monkeypatch.setattr(LanguageModel, "step", watched)


@pytest.mark.parametrize("name", SOUND)
def test_the_state_keeps_its_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once windows are full, from the first step to the last."""
    sizes: list[int] = []
    watch_steps(monkeypatch, lambda state: sizes.append(sum(t.nbytes for t in state_tensors(state))))
    run(make(name), [[5, 9, 33] * 6], 6)
    assert len(sizes) == 5
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("name", ["gpt1", "mamba2"])
def test_no_step_leaves_a_tensor_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    steps = itertools.count()

    def look(_: object) -> None:
        if next(steps) in (2, 12):
            alive.append(sum(t.nbytes for t in gc.get_objects() if type(t) is Tensor))

    watch_steps(monkeypatch, look)
    run(make(name), [[5, 9, 33]], 14)
    assert alive[0] == alive[1] > 0


def test_the_cache_is_written_in_place(gpt1: LanguageModel) -> None:
    with torch.no_grad():
        _, state = gpt1.prefill(torch.tensor([[5, 9, 33]]), gpt1.initial_state(1, 8))
        before = [t.data_ptr() for t in state_tensors(state)]
        for token in (1, 2, 3, 4, 5):
            _, state = gpt1.step(torch.tensor([token]), state)
        assert [t.data_ptr() for t in state_tensors(state)] == before


def test_learned_positions_to_the_last(gpt1: LanguageModel) -> None:
    prompts = [[4] * 508, [4, 9]]
    assert room(gpt1, prompts) == 5
    assert [len(row) for row in run(gpt1, prompts, 5)] == [5, 5]
    with pytest.raises(RequestError, match=r"--max-tokens 6: .* 512 learned .* takes 508; at most 5 fit"):
        next(generate(gpt1, prompts, 6))
    with pytest.raises(RequestError, match="--prompt: 513 tokens given; the model has 512"):
        room(gpt1, [[4] * 513])
    assert room(make("mamba2"), prompts) is None


def test_the_model_comes_back_in_its_modes(gpt1: LanguageModel) -> None:
    gpt1.train()
    gpt1.blocks[0].eval()
    before = [module.training for module in gpt1.modules()]
    stream = generate(gpt1, [[5]], 5)
    assert isinstance(stream, Generator)
    next(stream)
    assert not any(module.training for module in gpt1.modules())
    assert torch.is_grad_enabled()
    stream.close()
    assert [module.training for module in gpt1.modules()] == before
    gpt1.eval()


@pytest.mark.parametrize(
    ("prompts", "says"),
    [([[]], "at least one token"), ([[61]], "reach 61; the model has 61"), ([[-1]], "the model has 61 tokens")],
)
def test_prompts_that_cannot_be_read(gpt1: LanguageModel, prompts: list[list[int]], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        next(generate(gpt1, prompts, 3))


def test_logits_that_are_not_finite(gpt1: LanguageModel) -> None:
    broken = redrawn(gpt1, torch.Generator().manual_seed(0))
    broken.get_parameter("norm.weight").data.fill_(math.nan)
    with pytest.raises(RequestError, match="logits are not finite"):
        next(generate(broken, [[5]], 3))


# Sampling


def expected_distribution(logits: list[float], sampler: Sampler) -> list[float]:
    """The sampler's distribution in plain Python, one token at a time, the likeliest first."""
    top = max(logits)
    weights = {i: math.exp((x - top) / sampler.temperature) for i, x in enumerate(logits)}
    ranked = sorted(weights, key=lambda i: (-weights[i], i))[: sampler.top_k]
    total, kept, reached = sum(weights[i] for i in ranked), [], 0.0
    for i in ranked:
        if sampler.top_p is None or reached < sampler.top_p:
            kept.append(i)
            reached += weights[i] / total
    mass = sum(weights[i] for i in kept)
    return [weights[i] / mass if i in kept else 0.0 for i in range(len(logits))]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("top_k", [None, 1, 5, 200])
@pytest.mark.parametrize("top_p", [None, 0.01, 0.6, 1.0])
def test_probabilities(temperature: float, top_k: int | None, top_p: float | None) -> None:
    sampler = Sampler(temperature, top_k, top_p)
    logits = 2 * torch.randn(4, 30, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    logits[1, :10] = logits[1].max()  # equals
    expected = torch.tensor([expected_distribution(row.tolist(), sampler) for row in logits], dtype=torch.float64)
    torch.testing.assert_close(sampler.probabilities(logits), expected, rtol=1e-12, atol=1e-12)


def test_temperatures_near_and_at_zero() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0, -2.0]])
    assert Sampler(0.0).probabilities(logits).tolist() == [[0, 1, 0, 0]]
    assert Sampler(1e-320).probabilities(logits).tolist() == [[0, 0.5, 0.5, 0]]


def test_choice_inverts_the_cumulative_distribution() -> None:
    sampler = Sampler(1.0, top_k=3)
    logits = torch.tensor([[0.0, 0.5, 0.2, 0.1, 0.3]]).log()
    logits[0, 0] = -1e9
    spots = torch.tensor([0.0, 0.4999, 0.5001, 0.6999, 0.7001, 1 - 2**-53], dtype=torch.float64)
    assert sampler.choose(logits.expand(6, -1), spots).tolist() == [1, 1, 2, 2, 4, 4]


def test_drawn_frequencies() -> None:
    """Counts of 20,000 draws lie within five standard errors: a false alarm in a million."""
    sampler = Sampler(0.7, top_p=0.9)
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(1))
    p = sampler.probabilities(logits)[0]
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    share = sampler.choose(logits.expand(20_000, -1), uniform).bincount(minlength=12) / 20_000
    assert ((share - p).abs() <= 5 * (p * (1 - p) / 20_000).sqrt()).all()
    assert (share[p == 0] == 0).all()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"temperature": -1.0}, "--temperature -1.0"),
        ({"temperature": math.nan}, "--temperature nan"),
        ({"temperature": math.inf}, "--temperature inf"),
        ({"top_k": 0}, "--top-k 0"),
        ({"top_p": 0.0}, "--top-p 0.0"),
        ({"top_p": 1.5}, "--top-p 1.5"),
        ({"top_p": math.nan}, "--top-p nan"),
    ],
)
def test_samplers_that_cannot_be(values: dict[str, float], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        Sampler(**values)  # type: ignore[arg-type]


# Streaming

TEXT = "naïve café — 你好, мир! 🙂🙃 e\u0301 \ufffd done\n"


@pytest.fixture(scope="module", params=["bytes", "bpe:300"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return build_tokenizer(request.param, [TEXT * 20, "plain text " * 20])


def test_text_comes_as_whole_characters(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode(TEXT)]
    assert "".join(pieces) + stream.close() == TEXT
    assert len([piece for piece in pieces if piece]) > 12  # as they come, not at the end


@given(ids=st.lists(st.one_of(st.integers(0, 299), st.integers(128, 255)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_bytes_stream_to_what_decode_gives(tokenizer: Tokenizer, ids: list[int]) -> None:
    ids = [number % tokenizer.vocab_size for number in ids]
    stream, shown = TextStream(tokenizer), ""
    for count, token in enumerate(ids, 1):
        shown += stream.push(token)
        whole = tokenizer.decode(ids[:count])
        assert whole.startswith(shown)
        assert whole.removesuffix("\ufffd") in (shown, shown.removesuffix("\ufffd"))  # nothing waits but the last
    assert shown + stream.close() == tokenizer.decode(ids)
