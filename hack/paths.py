"""Where things are: the checkout, and the one cache directory that holds all that is expensive to make again."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("KAIZEN_CACHE") or Path.home() / ".cache" / "kaizen").resolve()
CACHE_TAG = CACHE / "CACHEDIR.TAG"
"""Marks the directory as ours, for `make distclean`, and as a cache, for backups (bford.info/cachedir)."""
TOOLS = CACHE / "bin"
LOGS = CACHE / "logs"
KUBECONFIG = CACHE / "kubeconfig"
