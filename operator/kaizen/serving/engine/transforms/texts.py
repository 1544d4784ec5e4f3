"""Texts to numbers: how often each known word, or piece of a word, occurs, and how much that weighs."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import sqrt
from typing import Any, ClassVar, Literal

import numpy as np

from kaizen.serving.engine.base import Matrix, Refused
from kaizen.serving.engine.transforms.common import Document, Reads, Takes, refuse, refuse_batch

__all__ = ["Analysis", "HashedWords", "Weigh", "Words"]

Norm = Literal["l1", "l2"] | None

_SPACES = re.compile(r"\s\s+")
_COUNTED = 1024
"""Logarithms of counts below are kept."""


@dataclass(frozen=True)
class Analysis:
    """What counts as a word."""

    analyzer: Literal["word", "char", "char_wb"]
    pattern: str
    """Of a word."""
    lowercase: bool
    accents: Literal["ascii", "unicode"] | None
    """How they are taken off."""
    shortest: int
    longest: int
    """Of the runs of words, or of letters, that count as one."""
    stop: list[str]
    """Words that do not count."""

    def pieces(self) -> Callable[[Any], Iterable[str]]:
        """The function that takes a text apart.  Raises Refused when it gets none."""
        find, stop, cut = re.compile(self.pattern).findall, frozenset(self.stop), self._cut()

        def analyse(text: Any) -> Iterable[str]:
            if type(text) is not str:
                raise Refused("a text is missing; this model takes no missing texts")
            if self.lowercase:
                text = text.lower()
            if self.accents is not None:
                text = _without_accents(text, self.accents)
            if cut is not None:
                return cut(_SPACES.sub(" ", text))
            words = find(text)
            if stop:
                words = [word for word in words if word not in stop]
            return words if self.longest == 1 else self._runs(words)

        return analyse

    def _cut(self) -> Callable[[str], Iterable[str]] | None:
        return {"word": None, "char": self._letters, "char_wb": self._letters_of_words}[self.analyzer]

    def _runs(self, words: Sequence[str]) -> Iterator[str]:
        for length in range(self.shortest, min(self.longest, len(words)) + 1):
            for start in range(len(words) - length + 1):
                yield " ".join(words[start : start + length])

    def _letters(self, text: str) -> Iterator[str]:
        for length in range(self.shortest, min(self.longest, len(text)) + 1):
            for start in range(len(text) - length + 1):
                yield text[start : start + length]

    def _letters_of_words(self, text: str) -> Iterator[str]:
        for word in text.split():
            padded = f" {word} "
            for length in range(self.shortest, self.longest + 1):
                yield padded[:length]
                for start in range(1, len(padded) - length + 1):
                    yield padded[start : start + length]
                if len(padded) <= length:  # what is shorter than a piece counts once
                    break


def _without_accents(text: str, way: str) -> str:
    if text.isascii():
        return text
    taken_apart = unicodedata.normalize("NFKD", text)
    if way == "ascii":
        return taken_apart.encode("ascii", "ignore").decode("ascii")
    return "".join(letter for letter in taken_apart if not unicodedata.combining(letter))


@dataclass(frozen=True)
class Weighting:
    """TfidfTransformer: logarithms of counts, times the rarity of each word, divided by the length of the row."""

    logarithmic: bool
    rarity: list[float] | None
    norm: Norm

    def weigh(self, numbers: Mapping[int, float]) -> list[tuple[int, float]]:
        """Weights of the columns that are not 0, added up in scikit-learn's order."""
        columns = sorted(numbers)
        weights = [numbers[column] for column in columns]
        if self.logarithmic:
            weights = [_logarithm(weight) + 1.0 for weight in weights]
        if self.rarity is not None:
            weights = [weight * self.rarity[column] for column, weight in zip(columns, weights, strict=True)]
        if self.norm is not None:
            length = 0.0
            for weight in weights:  # not sum(): it makes up for rounding since Python 3.12
                length += abs(weight) if self.norm == "l1" else weight * weight
            length = sqrt(length) if self.norm == "l2" else length
            weights = [weight / length for weight in weights] if length else weights
        return list(zip(columns, weights, strict=True))


@cache
def _logarithms() -> list[float]:
    with np.errstate(divide="ignore"):
        logarithms: list[float] = np.log(np.arange(_COUNTED, dtype=np.float64)).tolist()
    return logarithms


def _logarithm(number: float) -> float:
    """NumPy's, whose last bit may be another than that of Python's."""
    if 0.0 <= number < _COUNTED and number == int(number):
        return _logarithms()[int(number)]
    with np.errstate(all="ignore"):
        return float(np.log(number))


class _Texts(Document):
    """One column of texts in, columns of numbers out."""

    reads: ClassVar[Reads] = "Lists"
    width: int

    def numbers(self, text: Any) -> Iterable[tuple[int, float]]:
        """Columns and numbers that are not 0."""
        raise NotImplementedError

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        made = [0.0] * self.width
        for column, number in self.numbers(values[0]):
            made[column] = number
        return made

    def batch(self, table: list[list[Any]]) -> Matrix:
        """See Transform.batch."""
        made = np.zeros((len(table[0]), self.width))
        for row, text in zip(made, table[0], strict=True):
            for column, number in self.numbers(text):
                row[column] = number
        return made


@dataclass(frozen=True)
class Words(_Texts):
    """CountVectorizer, and TfidfVectorizer with a weighting."""

    analysis: Analysis
    terms: list[str]
    """The words that count, in the order of their columns."""
    binary: bool
    weighting: Weighting | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", len(self.terms))
        object.__setattr__(self, "_places", {term: place for place, term in enumerate(self.terms)})
        object.__setattr__(self, "_pieces", self.analysis.pieces())

    def numbers(self, text: Any) -> Iterable[tuple[int, float]]:
        """See _Texts.numbers."""
        find = self._places.get  # type: ignore[attr-defined]
        counts: dict[int, float] = {}
        for piece in self._pieces(text):  # type: ignore[attr-defined]
            place = find(piece)
            if place is not None:
                counts[place] = 1.0 if self.binary else counts.get(place, 0.0) + 1.0
        return counts.items() if self.weighting is None else self.weighting.weigh(counts)


@dataclass(frozen=True)
class HashedWords(_Texts):
    """HashingVectorizer: a word's column is its hash (MurmurHash3, 32 bits)."""

    analysis: Analysis
    width: int
    signed: bool
    """Whether half of the words count down."""
    binary: bool
    norm: Norm

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pieces", self.analysis.pieces())
        object.__setattr__(self, "_weighting", Weighting(False, None, self.norm))

    def numbers(self, text: Any) -> Iterable[tuple[int, float]]:
        """See _Texts.numbers."""
        counts: dict[int, float] = {}
        for piece in self._pieces(text):  # type: ignore[attr-defined]
            try:
                hashed = _murmur(piece.encode())
            except UnicodeEncodeError:
                raise Refused("a text holds half of a surrogate pair, which no encoding has") from None
            place = abs(hashed) % self.width
            counts[place] = counts.get(place, 0.0) + (-1.0 if hashed < 0 and self.signed else 1.0)
        if self.binary:
            counts = dict.fromkeys(counts, 1.0)
        return self._weighting.weigh(counts)  # type: ignore[attr-defined, no-any-return]


_WORD = 0xFFFFFFFF


def _murmur(content: bytes) -> int:
    """MurmurHash3 x86 32 (Austin Appleby, public domain) with seed 0, as a signed number."""
    whole = len(content) & ~3
    hashed = 0
    for start in range(0, whole, 4):
        hashed ^= _scrambled(int.from_bytes(content[start : start + 4], "little"))
        hashed = (hashed << 13 | hashed >> 19) & _WORD
        hashed = (hashed * 5 + 0xE6546B64) & _WORD
    hashed ^= _scrambled(int.from_bytes(content[whole:], "little")) ^ len(content)
    hashed = ((hashed ^ hashed >> 16) * 0x85EBCA6B) & _WORD
    hashed = ((hashed ^ hashed >> 13) * 0xC2B2AE35) & _WORD
    hashed ^= hashed >> 16
    return hashed - (hashed >> 31 << 32)


def _scrambled(part: int) -> int:
    part = (part * 0xCC9E2D51) & _WORD
    part = (part << 15 | part >> 17) & _WORD
    return (part * 0x1B873593) & _WORD


@dataclass(frozen=True)
class Weigh(Document):
    """TfidfTransformer behind anything but its own vectorizer."""

    weighting: Weighting
    takes: Takes = field(default="Finite")
    reads: ClassVar[Reads] = "Matrix"

    def row(self, values: Sequence[Any]) -> list[Any]:
        """See Transform.row."""
        refuse(values, self.takes)
        made = [0.0] * len(values)
        for column, weight in self.weighting.weigh({i: value for i, value in enumerate(values) if value}):
            made[column] = weight
        return made

    def batch(self, table: Matrix) -> Matrix:
        """See Transform.batch."""
        refuse_batch(table, self.takes)
        return np.array([self.row(values) for values in table.tolist()])
