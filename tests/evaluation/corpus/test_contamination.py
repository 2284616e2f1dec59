"""Data checks: copies are found by both methods and named, innocent text is not, and so with chains and tokenizers."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from assay.data.config import DataConfig
from assay.data.corpus import Document
from assay.data.text.prepare import prepare
from assay.data.text.tokenized import SplitCounts, TokenizedCorpus, tokenize
from assay.data.text.tokenizer import build_tokenizer
from assay.evaluation.corpus.containment import GRAM_WORDS, Copies, Copy, exact_copies, minhash_copies
from assay.evaluation.corpus.contamination import chain_finding, corpus_findings, data_findings
from assay.records import Finding, Flops, Parameters, RunRecord
from study.made_up import write_corpus

DRAW = np.random.default_rng(0)
WORDS = ["".join(DRAW.choice(list("abcdefghijklmnop"), 5)) for _ in range(2000)]


def text(words: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def edited(original: str, every: int) -> str:
    """Each `every`-th word replaced, in capitals and with other punctuation."""
    words = original.upper().split()
    words[every - 1 :: every] = ["EDITED"] * len(words[every - 1 :: every])
    return ",  ".join(words) + "!"


HELD_OUT = [text(words, seed) for seed, words in enumerate([300, 40, 900, 120, 300, 13, 12, 2000])]
CLEAN = [text(words, 100 + seed) for seed, words in enumerate([300, 50, 2000, 13, 700])]
NEAR = edited(HELD_OUT[0], 60)
"""Of 288 grams four edits take 13 each and the last one 1: 235 remain, 82%."""
FAR = edited(HELD_OUT[4], 20)
"""7 of every 20 remain: under a half."""


def pairs(copies: Copies) -> set[tuple[int, int]]:
    return {(copy.held_out, copy.training) for copy in copies.found}


def only(copies: Copies) -> Copy | None:
    """The only copy found, if one was."""
    assert len(copies.found) <= 1
    return copies.found[0] if copies.found else None


@pytest.mark.parametrize("find", [exact_copies, minhash_copies])
def test_copies_are_found_and_innocent_text_is_not(find) -> None:  # type: ignore[no-untyped-def]
    """A near-copy, a verbatim one inside a longer document, an excerpt, and a copy of exactly 13 words."""
    excerpt = " ".join(HELD_OUT[7].split()[500:700])
    training = [*CLEAN, NEAR, f"{CLEAN[1]} {HELD_OUT[1]} {CLEAN[0]}", FAR, excerpt, HELD_OUT[5]]
    got = find(HELD_OUT, training)
    assert pairs(got) == {(0, 5), (1, 6), (7, 8), (5, 9)}
    by_pair = {(copy.held_out, copy.training): copy for copy in got.found}
    assert by_pair[0, 5].share == pytest.approx(235 / 288)
    assert by_pair[1, 6].share == 1.0
    assert by_pair[7, 8].reversed
    assert [copy.share for copy in got.found] == sorted((copy.share for copy in got.found), reverse=True)
    clean = find(HELD_OUT, [*CLEAN, FAR])
    assert clean.found == []
    assert find([], CLEAN) == find(CLEAN, []) == find(HELD_OUT, ["", "too short"]) == Copies([], 0.0)


def test_the_share_is_what_sets_of_grams_say() -> None:
    """Against sets of tuples of words, on texts that overlap by chance, by a part, and not at all."""

    def gram_set(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + GRAM_WORDS]) for i in range(len(words) - GRAM_WORDS + 1)}

    for seed in range(20):
        draw = np.random.default_rng(seed)
        base = draw.choice(WORDS[:30], 200).tolist()
        other = base[: int(draw.integers(100, 200))] + draw.choice(WORDS[:30], 50).tolist()
        a, b = gram_set(base), gram_set(other)
        held = only(exact_copies([" ".join(base)], [" ".join(other)]))
        pair = only(minhash_copies([" ".join(base)], [" ".join(other)]))
        if len(a & b) < 0.5 * min(len(a), len(b)):
            assert held is pair is None
        else:
            assert held is not None
            assert pair is not None
            assert held.share == pytest.approx(len(a & b) / len(b if held.reversed else a), abs=1e-12)
            assert held.reversed == (len(a & b) < 0.5 * len(a))
            assert pair.share == pytest.approx(len(a & b) / min(len(a), len(b)), abs=1e-12)


def test_scripts_without_spaces_have_words() -> None:
    chinese = "".join(chr(0x4E00 + int(number)) for number in np.random.default_rng(1).integers(0, 3000, 80))
    assert pairs(exact_copies([chinese], ["。" + chinese[5:75] + "。"])) == {(0, 0)}


def test_minhash_finds_what_the_exact_method_finds() -> None:
    """A hundred and twenty documents of many lengths; every third is in training, edited every 45 words or more."""
    lengths = np.random.default_rng(2).integers(40, 400, 120).tolist()
    held_out = [text(words, 1000 + seed) for seed, words in enumerate(lengths)]
    copied = list(range(0, 120, 3))
    training = [text(200, 5000 + seed) for seed in range(100)]
    training += [edited(held_out[index], 45 + index) for index in copied]
    exact, minhash = exact_copies(held_out, training), minhash_copies(held_out, training)
    assert {held for held, _ in pairs(exact)} == set(copied)
    assert pairs(minhash) == pairs(exact)
    both = {(copy.held_out, copy.training): copy.share for copy in exact.found if not copy.reversed}
    for copy in minhash.found:
        assert copy.share == pytest.approx(both[copy.held_out, copy.training])


@pytest.mark.parametrize("find", [exact_copies, minhash_copies])
def test_boilerplate_is_neither_a_copy_nor_quadratic(find) -> None:  # type: ignore[no-untyped-def]
    """A licence of 100 words heads every document of 250: no copies. Twice the documents take twice the time."""
    licence = text(100, 7)

    def seconds(count: int) -> float:
        held_out = [f"{licence} {text(150, 10_000 + seed)}" for seed in range(count)]
        training = [f"{licence} {text(150, 20_000 + seed)}" for seed in range(count)]
        copy = f"{text(20, 8)} {held_out[3]}"
        started = time.process_time()
        got = find(held_out, [*training, copy])
        taken = time.process_time() - started
        assert {(c.held_out, c.training) for c in got.found} == {(3, count)}
        return taken

    seconds(20)
    assert seconds(240) < 7 * seconds(80)


def corpus_with(train: list[str], validation: list[str], test: list[str], spec: str = "bytes") -> TokenizedCorpus:
    """A corpus with these splits, whatever they have in common; the tokenizer is trained on the first."""
    tokenizer = build_tokenizer(spec, train)
    splits = {
        name: tokenize([Document(f"{name}-{number}", each) for number, each in enumerate(texts)], tokenizer)[0]
        for name, texts in (("train", train), ("validation", validation), ("test", test))
    }
    return TokenizedCorpus(
        name="made-up", digest="", tokenizer=tokenizer, counts=SplitCounts(0, 0, True), invertible=True, **splits
    )


def of(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


@pytest.mark.parametrize("exact_documents", [100, 0])
def test_a_contaminated_corpus_names_its_documents(exact_documents: int) -> None:
    corpus = corpus_with([*CLEAN, NEAR], HELD_OUT[1:3], [HELD_OUT[0], HELD_OUT[4]])
    got = of(corpus_findings(corpus, exact_documents), "contamination")
    assert got.status == "fail"
    assert got.measured == pytest.approx(235 / 288)
    assert got.where is not None
    assert "test document 'test-0': 82% of it stands in training document 'train-5'" in got.where
    assert got.explanation.startswith("1 copy of half")
    clean = of(corpus_findings(corpus_with(CLEAN, HELD_OUT[1:3], HELD_OUT[3:5]), exact_documents), "contamination")
    assert (clean.status, clean.where) == ("pass", None)


def test_a_corpus_that_was_split_here_passes_and_is_read_again(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "corpus", documents=30, words=80)
    data = DataConfig(corpus=f"text:{folder}", tokenizer="bpe:300")
    digest = prepare(data).digest
    assert [(f.check, f.status) for f in data_findings(data, digest)] == [
        ("contamination", "pass"),
        ("tokenizer", "pass"),
    ]
    (folder / "000.txt").write_text(text(80, 3), encoding="utf-8")
    changed = data_findings(data, digest)
    assert [f.status for f in changed] == ["skip", "skip"]
    assert "has changed since the run" in changed[0].explanation
    gone = data_findings(data.model_copy(update={"corpus": f"text:{tmp_path / 'gone'}"}), digest)
    assert [f.status for f in gone] == ["skip", "skip"]
    assert "no such file or folder" in gone[0].explanation


def test_a_tokenizer_that_saw_the_test_split_fails() -> None:
    corpus = corpus_with(CLEAN, HELD_OUT[1:3], HELD_OUT[3:5], "bpe:400")
    assert of(corpus_findings(corpus), "tokenizer").status == "pass"
    both = build_tokenizer("bpe:400", [*CLEAN, *HELD_OUT[1:5]])
    got = of(corpus_findings(dataclasses.replace(corpus, tokenizer=both)), "tokenizer")
    assert (got.status, got.where) == ("fail", "tokenizer.json")


def test_a_tokenizer_made_elsewhere_is_skipped_and_bytes_pass(tmp_path: Path) -> None:
    assert of(corpus_findings(corpus_with(CLEAN, HELD_OUT[1:2], HELD_OUT[3:4])), "tokenizer").status == "pass"
    build_tokenizer("bpe:300", CLEAN).save(tmp_path / "mine.json")
    got = corpus_findings(corpus_with(CLEAN, HELD_OUT[1:2], HELD_OUT[3:4], str(tmp_path / "mine.json")))
    assert of(got, "tokenizer").status == "skip"
    assert "mine.json was made elsewhere" in of(got, "tokenizer").explanation


def run(architecture: str, seed: int, chain: str, status: str = "finished") -> RunRecord:
    return RunRecord(
        label=architecture,
        architecture=architecture,
        seed=seed,
        status=status,
        steps=1,
        tokens=1,
        parameters=Parameters(total=1, embedding=0, non_embedding=1),
        flops_per_token=Flops(forward=1, training=3),
        state_bytes=0,
        dimensions={},
        training_curve=[],
        validation_curve=[],
        train_tokens_per_second=1.0,
        peak_memory_bytes=None,
        data_chain=chain,
        forms={},
        interruptions=0,
        chain_broken=None,
        corpus_digest="",
        environment={},
    )


def test_chains_are_compared_by_seed() -> None:
    same = [run("a", 0, "x"), run("b", 0, "x"), run("a", 1, "y"), run("b", 1, "y")]
    assert chain_finding(same).status == "pass"
    unequal = chain_finding([*same[:3], run("b", 1, "z")])
    assert unequal.status == "fail"
    assert unequal.where == "seed 1: b consumed other batches than a"
    assert chain_finding([same[0], run("b", 0, "short", "diverged")]).status == "skip"
    assert chain_finding(same[::2]).status == "skip"
    assert chain_finding([]).status == "skip"
