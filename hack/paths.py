"""Where things are: the checkout, and the one cache directory that holds all that is expensive to make again."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("KAIZEN_CACHE") or Path.home() / ".cache" / "kaizen")
TOOLS = CACHE / "bin"
LOGS = CACHE / "logs"
KUBECONFIG = CACHE / "kubeconfig"
