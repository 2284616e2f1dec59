"""Integers from (seed, purpose, step): every random stream in assay starts here, none in a global generator."""

import hashlib


def derive(seed: int, purpose: str, step: int = 0, part: int = 0, *, replicate: int = 0) -> int:
    """Return a 63-bit integer that is a function of its arguments alone, on every machine.

    `purpose` separates streams ("init", "data", "dropout", "evaluation"), so that drawing more from one never
    changes another; `part` separates the micro-batches of one step. Each `replicate` gives other streams for the same
    seed; 0 is the default.
    """
    salt = f"r{replicate}/" if replicate else ""  # before the seed, where no digit can be taken for it
    digest = hashlib.sha256(f"assay/{salt}{seed}/{purpose}/{step}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
