"""What can end a training run in a way that a person can mend, as one value: step, code, sentence."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["DO_NOT_RETRY", "Failure", "nearest"]

DO_NOT_RETRY = 10
"""Exit code of a Pod whose failure comes back however often it is tried: podFailurePolicy maps it to FailJob."""


class Failure(Exception):
    """A run that ended for a reason a person can act on.

    The message is one sentence that names the file, column or first offending value, and says what to write instead.
    """

    def __init__(self, step: str, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.step = step
        """One of progress.STEPS."""
        self.code = code
        """Stable UpperCamel reason, e.g. TargetConstant."""
        self.message = message
        self.retry = retry
        """A later attempt may succeed although nobody changed anything."""

    @property
    def exit_code(self) -> int:
        """Of the Pod's main process."""
        return 1 if self.retry else DO_NOT_RETRY


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: what it may have meant, else what there is."""
    names = sorted(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    close = [folded[match] for match in get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
