"""Near-duplicates: what is joined and what is not, in any number, writing and script; boilerplate; time."""

import time
import unicodedata

import numpy as np
import pytest

from assay.data.text.overlap.coverage import SCALES, Scale
from assay.data.text.overlap.duplicates import BOILERPLATE_TEXTS, near_duplicate_clusters

RANDOM_SEED = 21
Words = list[str]


def draw(generator: np.random.Generator, count: int, vocabulary: int = 5_000) -> Words:
    return [f"w{number}" for number in generator.integers(0, vocabulary, count)]


def text(generator: np.random.Generator, count: int) -> str:
    return " ".join(draw(generator, count))


def joined(*texts: str) -> bool:
    return len(set(near_duplicate_clusters(texts).tolist())) == 1


def replaced(generator: np.random.Generator, words: Words, share: float) -> Words:
    """`share` of the words replaced, at random places."""
    places = generator.permutation(len(words))[: max(1, round(share * len(words)))]
    return [f"new{index}" if index in places else word for index, word in enumerate(words)]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 12])
def test_short_texts_that_differ_in_marks_alone_are_joined(count: int) -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    for _ in range(10):
        words = draw(generator, count)
        one = " ".join(words)
        variants = [f"{one}.", f"\u201c{one.upper()}!\u201d", ",\n".join(words), f" -- {one}\u2026"]
        assert joined(one, *variants)


@pytest.mark.parametrize("count", [2, 5, 12, 40, 300])
def test_unicode_normal_forms_are_one(count: int) -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    one = " ".join(f"\u00e9{word}\u00fc\ufb01\u1e69\u00b2" for word in draw(generator, count))
    forms = [unicodedata.normalize(form, one) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    assert len(set(forms)) > 2
    assert joined(one, *forms, one.replace("w", "w\u00ad").upper())


@pytest.mark.parametrize(("count", "hosts"), [(5, 20), (8, 100), (12, 20), (13, 20), (30, 100), (100, 20), (400, 20)])
def test_a_text_in_many_longer_ones_joins_them_all(count: int, hosts: int) -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    one = text(generator, count)
    texts = [
        f"{text(generator, 2 * count)} {one} {text(generator, int(generator.integers(20, 500)))}" for _ in range(hosts)
    ]
    others = [text(generator, 100) for _ in range(20)]
    labels = near_duplicate_clusters([*others, one, *texts])
    assert labels.tolist() == [*range(20), *[20] * (hosts + 1)]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("a b c d", "a b c d!", True),
        ("a b c d", "a b c x", False),
        ("a b c d e", "a b x d e", True),
        ("a b c d e", "a c d e", True),
        ("a b c d e", "a b x c d e", True),
        ("a b c d e", "a x c y e", False),
        ("a b c d e f g h", "a x c d y f g h", True),
        ("a b c d e f g h", "h g f e d c b a", False),
        ("a b c d e f g h i j k l", "x b c d y f g h i j z l", True),
        ("a b c d e f g h i j k l", "a b c d e f g h i j k l m n o", True),
        ("a b c d e f g h i j k l", "a b c d e f g h m n o p", False),
        ("a b c d", "x x a b c d x x x x x", False),
        ("a b c d e", "x x a b c d e x x x x x", True),
        ("!!!", "???", False),
    ],
)
def test_of_short_texts_a_quarter_may_differ(one: str, other: str, together: bool) -> None:
    assert joined(one, other) == joined(other, one) == together


def covered(query: Words, held: Words, gram: int) -> float:
    """The share of words of `query` in runs of `gram` words that `held` has."""
    known = {tuple(held[at : at + gram]) for at in range(len(held))}
    places = {
        at + k for at in range(len(query) - gram + 1) if tuple(query[at : at + gram]) in known for k in range(gram)
    }
    return len(places) / len(query)


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: f"from {scale.fewest}")
def test_texts_covered_by_enough_runs_are_joined_and_others_are_not(scale: Scale) -> None:
    """Texts with a part in common at the same place: parts of all sizes, whether from the start or in the middle."""
    generator = np.random.default_rng(RANDOM_SEED)
    length = {13: 20, 26: 40, 64: 100, 256: 400}[scale.fewest]
    bound = max(scale.covered, scale.in_order)
    for common in range(scale.gram, length, max(1, length // 23)):
        one = draw(generator, length, 10**6)
        start = int(generator.integers(length - common + 1))
        other = [*draw(generator, start, 10**6), *one[start : start + common], *draw(generator, length, 10**6)]
        share = covered(one, other, scale.gram)
        assert share == common / length
        assert joined(" ".join(one), " ".join(other)) == (share >= bound), (common, length)


@pytest.mark.parametrize("count", [25, 50, 200, 600])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.15])
def test_edited_texts_are_joined(count: int, share: float) -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    pairs = []
    for _ in range(20):
        words = draw(generator, count)
        pairs += [" ".join(words), " ".join(replaced(generator, words, share))]
    assert near_duplicate_clusters(pairs).tolist() == [number // 2 * 2 for number in range(40)]


def test_boilerplate_neither_joins_long_texts_nor_hides_copies() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    header = text(generator, 60) + " "
    number = BOILERPLATE_TEXTS + 10
    different = [header + text(generator, 200) for _ in range(number)]
    body = header + text(generator, 100)
    copies = [f"{body} copy{n}" for n in range(number)]
    texts = [each for pair in zip(different, copies, strict=True) for each in pair]
    labels = near_duplicate_clusters([*texts, header])
    assert len(set(labels[0:-1:2].tolist())) == number
    assert set(labels[1:-1:2].tolist()) == {1}
    assert labels[-1] == 2 * number, "the header by itself joins nobody"


def test_thousands_of_copies_of_one_text_take_no_quadratic_time() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    base = draw(generator, 120)
    texts = [" ".join(replaced(generator, base, 0.05)) for _ in range(800)]
    started = time.process_time()
    assert joined(*texts)
    assert time.process_time() - started < 5


def test_a_language_of_few_words_is_not_all_one_text() -> None:
    """Sixty words, each followed by one of three: runs of four words repeat in all texts."""
    generator = np.random.default_rng(RANDOM_SEED)
    texts = []
    for count in (20, 50, 150, 300, 1000) * 6:
        word = 0
        words = []
        for step in generator.integers(0, 3, count).tolist():
            words.append(f"w{word}")
            word = (word * 7 + 3 + step) % 60
        texts.append(" ".join(words))
    assert len(set(near_duplicate_clusters(texts).tolist())) >= 0.8 * len(texts)


@pytest.mark.parametrize(
    ("first", "letters", "size"), [(0x4E00, 3_000, 1), (0x3041, 80, 2), (0x0E01, 46, 4), (0x1780, 33, 4)]
)
def test_scripts_without_spaces_have_words_too(first: int, letters: int, size: int) -> None:
    """Chinese, hiragana, Thai, Khmer: a tenth of the words replaced, a part, and another text."""
    generator = np.random.default_rng(RANDOM_SEED)
    vocabulary = ["".join(map(chr, first + generator.integers(0, letters, size))) for _ in range(2_000)]
    for count in (12, 40, 150, 500):
        words, other = (generator.choice(vocabulary, count).tolist() for _ in range(2))
        edit = [
            "".join(map(chr, first + generator.integers(0, letters, size))) if n % 10 == 5 else word
            for n, word in enumerate(words)
        ]
        texts = [
            "".join(words),
            "".join(other),
            "".join(edit),
            "".join([*other[: count // 3], *words, *other[: count // 3]]),
        ]
        assert near_duplicate_clusters(texts).tolist() == [0, 1, 0, 0]


def test_clusters_do_not_depend_on_the_order_of_texts() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    texts = [text(generator, int(generator.integers(3, 400))) for _ in range(60)]
    texts += [" ".join(replaced(generator, each.split(), 0.2)) for each in texts]
    order = generator.permutation(len(texts))
    clusters = []
    for places in (np.arange(len(texts)), order):
        labels = near_duplicate_clusters([texts[n] for n in places])
        clusters.append({frozenset(places[labels == label].tolist()) for label in set(labels.tolist())})
    assert clusters[0] == clusters[1]


def test_no_texts_and_texts_without_words_stand_alone() -> None:
    assert near_duplicate_clusters([]).tolist() == []
    assert near_duplicate_clusters(["", "a b", "...", "a b"]).tolist() == [0, 1, 2, 1]
