"""Taking away what the other commands made."""

from hack import cluster, engine
from hack.paths import CACHE, CACHE_TAG, LOGS, REPOSITORY
from hack.steps import Stop, discard, step, unmount_below

_WORK = (".pytest_cache", ".mypy_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis", "dist")


def clean() -> None:
    """Delete the cluster and the checkout's work files; what was expensive to make stays in the cache."""
    cluster.down()
    for name in _WORK:
        discard(REPOSITORY / name)


def distclean() -> None:
    """Delete everything that any command of this package or the Makefile made; packages and public images stay."""
    clean()
    if not CACHE_TAG.exists():
        raise Stop(f"{CACHE} has no {CACHE_TAG.name}, so Kaizen did not make it: remove it yourself if it is only a cache.")
    this = engine.detect()
    with step("Remove images, tools and caches") as current:
        if not this.public and (CACHE / "engine" / "storage.conf").exists():
            this.ask("rm", "--all", "--force", "--volumes", timeout=120)
            this.ask("system", "reset", "--force", timeout=300)
        elif this.public:
            for image in (this.ask("images", "--format", "{{.Repository}}:{{.Tag}}") or "").split():
                if image.startswith("localhost/kaizen/"):
                    this.run(current, "rmi", "--force", image)
        unmount_below(CACHE)
        for entry in CACHE.iterdir():
            if entry not in (LOGS, CACHE_TAG):  # this step still writes there
                discard(entry)
    discard(CACHE)
    discard(REPOSITORY / ".venv")
