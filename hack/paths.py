"""Where things are: the checkout, and the one cache directory that holds all that is expensive to make again."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("KAIZEN_CACHE") or Path.home() / ".cache" / "kaizen")
TOOLS = CACHE / "bin"
LOGS = CACHE / "logs"
STATE = CACHE / "state"
"""What is installed in the running cluster, by digest; thrown away with the cluster."""
KUBECONFIG = CACHE / "kubeconfig"
