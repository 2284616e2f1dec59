"""Where assay keeps what it can make again."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The cache's folder: the environment variable ASSAY_CACHE, else the platform's usual one."""
    return Path(os.environ.get("ASSAY_CACHE") or platformdirs.user_cache_dir("assay"))
