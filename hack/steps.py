"""Steps: announced when they start, followed by a progress line while they run, timed when they end.

A step's commands write to a log of their own; when one fails, the end of that log is what the user sees.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hack.paths import CACHE, CACHE_TAG, LOGS

PROGRESS_SECONDS = 15
INTERRUPTED_SECONDS = 20
_print_lock = threading.Lock()


class Stop(Exception):
    """Work cannot go on; the text is the one sentence that the user reads."""


def say(line: str) -> None:
    with _print_lock:
        print(line, flush=True)


class Step:
    """One announced piece of work; `run` executes commands for it."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.log = LOGS / ("".join(c if c.isalnum() else "-" for c in title.lower()).strip("-") + ".log")
        self._log_lock = threading.Lock()

    def run(
        self,
        *command: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Run a command, append what it prints to the step's log, and return what it printed on standard output.

        Raises Stop, with the end of the log, when the command fails or exceeds `timeout` seconds.
        """
        words = [str(word) for word in command]
        with self._log_lock, self.log.open("a") as log:
            log.write(f"$ {' '.join(words)}\n")
            log.flush()
            try:
                code, answer = _finish(words, stdin, timeout, cwd=cwd, env={**os.environ, **(env or {})}, stderr=log)
            except subprocess.TimeoutExpired:
                raise Stop(f"{self.title}: `{words[0]}` did not end within {timeout:.0f} s; its log: {self.log}") from None
            except FileNotFoundError as problem:
                if problem.filename != words[0]:
                    raise
                raise Stop(f"{self.title}: the command `{words[0]}` is not installed.") from None
            except PermissionError:
                raise Stop(f"{self.title}: the command `{words[0]}` may not be run; is it executable?") from None
            log.write(answer)
        if code != 0:
            tail = "\n".join("    " + line for line in self.log.read_text(errors="replace").splitlines()[-25:])
            raise Stop(f"{self.title}: `{' '.join(words)[:160]}` failed ({code}).\n{tail}\n  Whole log: {self.log}")
        return answer


def _finish(words: list[str], stdin: str | None, timeout: float | None, **settings: Any) -> tuple[int, str]:
    """Exit code and standard output of a command; on Ctrl-C it gets the time to clean up that it would take by itself."""
    channel = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    with subprocess.Popen(words, stdin=channel, stdout=subprocess.PIPE, text=True, **settings) as process:
        try:
            answer, _ = process.communicate(stdin, timeout)
        except KeyboardInterrupt:
            with suppress(subprocess.TimeoutExpired):
                process.wait(INTERRUPTED_SECONDS)
            process.kill()
            raise
        except BaseException:
            process.kill()
            raise
        return process.returncode, answer


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Announce `title`, print a progress line every 15 s while the block runs, and its time when it ends."""
    LOGS.mkdir(parents=True, exist_ok=True)
    current = Step(title)
    current.log.write_text("")
    started, over = time.monotonic(), threading.Event()

    def report_progress() -> None:
        while not over.wait(PROGRESS_SECONDS):
            say(f"  … {title}: {time.monotonic() - started:.0f} s{_last_line(current.log)}")

    say(f"▸ {title}")
    thread = threading.Thread(target=report_progress, daemon=True)
    thread.start()
    try:
        yield current
    except BaseException:
        over.set()
        say(f"✗ {title}: failed after {time.monotonic() - started:.1f} s")
        raise
    over.set()
    thread.join()
    say(f"✓ {title}: {time.monotonic() - started:.1f} s")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-1:]
    return f" · {lines[0].strip()[:90]}" if lines and lines[0].strip() else ""


def quietly(*command: str | Path, env: Mapping[str, str] | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Ask a question of the machine: no log, no failure, the answer is the return code and the output."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as problem:
        return subprocess.CompletedProcess(words, 127, "", str(problem))


def digest(*parts: str | Path) -> str:
    """Twelve hexadecimal digits that change when a text, a file or any file below a directory changes."""
    total = hashlib.sha256()
    for part in parts:
        total.update(b"\1")  # where a part begins: a file that moves to the next one changes the digest
        if isinstance(part, Path):
            for file in _files(part):
                total.update(str(file.relative_to(part) if file != part else file.name).encode() + b"\0")
                # Like git, which keeps no other permission than this one: two clones give one digest.
                executable = b"x" if file.stat().st_mode & 0o100 else b"-"
                total.update(executable + hashlib.sha256(file.read_bytes()).digest())
        else:
            total.update(part.encode() + b"\0")
    return total.hexdigest()[:12]


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise Stop(f"{path} does not exist, and something is made from it.")
    hidden = (".", "__pycache__")
    return sorted(
        p for p in path.rglob("*") if p.is_file() and not any(part.startswith(hidden) for part in p.relative_to(path).parts)
    )


def publish(target: Path, make: Callable[[Path], None]) -> None:
    """Make a file or directory under a temporary name and rename it, so that what exists is always whole."""
    partial = target.with_name(f".{target.name}.partial")
    discard(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    make(partial)
    discard(target)
    partial.rename(target)


def unmount_below(path: Path) -> None:
    """Unmount what an interrupted command left mounted in a directory; removing it would reach into what is mounted."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((Path(name) for name in mounted), key=lambda found: len(found.parts), reverse=True):
        if point == path or path in point.parents:
            quietly("umount", "--lazy", point)


def discard(path: Path) -> None:
    """Remove a file, a link or a whole directory; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def alone() -> Iterator[None]:
    """Keep a second run on the same cache out; the lock goes away with the process, however it ends."""
    if not CACHE.exists():
        CACHE.mkdir(parents=True)
        CACHE_TAG.write_text(
            "Signature: 8a477f597d28d172789f06886806bc55\n# Made by Kaizen's Makefile, and removed by `make distclean`.\n"
        )
    with (CACHE / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stop(f"another run works on {CACHE}; wait for its end.") from None
        yield


def fail(problem: Stop) -> int:
    """Print the sentence and give the exit code."""
    print(f"\nkaizen: {problem}", file=sys.stderr, flush=True)
    return 1
