"""One error budget for several intervals."""


def level_of_each(level: float, intervals: int) -> float:
    """With which each of so many intervals is formed so that all hold together with `level` (Bonferroni)."""
    return 1 - (1 - level) / max(intervals, 1)
