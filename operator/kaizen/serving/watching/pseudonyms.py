"""Digests in place of values that are to be told apart and not read.

The same value of a column always has the same digest within a service, in captured rows as in labels, so what is joined by it
stays joined; and whoever has the values can join too: it is sha256 of "<namespace>/<service>/<column>/<value>", which DuckDB
knows as well.  There is no secret in it: values that can be guessed can be recognized.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["Pseudonyms"]


class Pseudonyms:
    """The columns of one service that get digests."""

    def __init__(self, namespace: str, service: str, columns: Collection[str]) -> None:
        self._seeds = {name: hashlib.sha256(f"{namespace}/{service}/{name}/".encode()) for name in columns}

    @property
    def columns(self) -> Collection[str]:
        """Those that get digests."""
        return self._seeds.keys()

    def of(self, column: str, value: Any) -> str | None:
        """The digest of a value of one of the columns; None for a missing one.  3 and 3.0 are the same value, and so is "3"."""
        if value is None or value != value:
            return None
        digest = self._seeds[column].copy()
        digest.update(_text(value).encode(errors="surrogatepass"))
        return digest.hexdigest()

    def applied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A row with digests where they belong."""
        return {name: self.of(name, value) if name in self._seeds else value for name, value in values.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
