"""What an InferenceService keeps of the rows that it answers, so that a model can learn from them."""

from typing import Annotated

from pydantic import Field

from kaizen.api.base import AS_SET, ColumnName, Model

__all__ = ["Capture"]

Columns = Annotated[list[ColumnName], Field(max_length=256, json_schema_extra=AS_SET)]


class Capture(Model):
    """Answered rows are written to the bucket: inputs, declared keys that were sent, and the answer."""

    sample_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the rows, each chosen by itself; with 0 no more are kept, and old ones still end with their retention."""
    retention_seconds: Annotated[int, Field(ge=86_400, le=315_360_000)] = 2_592_000
    """Captured rows are deleted when the whole day on which they were written is older."""
    exclude: Columns = []
    """Columns that are never written."""
    hash: Columns = []
    """Columns of which digests are written: they can be joined by, and not read."""
