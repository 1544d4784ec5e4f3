"""CountVectorizer, TfidfVectorizer, HashingVectorizer and TfidfTransformer."""

from typing import Any

import numpy as np

from kaizen.serving.engine.transformers.flow import Flow, Uncovered, doubles_only
from kaizen.serving.engine.transforms.common import Transform
from kaizen.serving.engine.transforms.texts import Analysis, HashedWords, Weigh, Weighting, Words

__all__ = ["count_vectorizer", "hashing_vectorizer", "tfidf_transformer", "tfidf_vectorizer"]


def count_vectorizer(vectorizer: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """How often each word of the vocabulary occurs."""
    if np.dtype(vectorizer.dtype) not in (np.int32, np.int64, np.float64):
        raise Uncovered(f"CountVectorizer with dtype {np.dtype(vectorizer.dtype)}, which cannot count far, is not compiled")
    return _words(vectorizer, flow, None)


def tfidf_vectorizer(vectorizer: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """The same, weighted."""
    if np.dtype(vectorizer.dtype) != np.float64:
        raise Uncovered(f"TfidfVectorizer with dtype {np.dtype(vectorizer.dtype)} is not compiled")
    return _words(vectorizer, flow, _weighting(vectorizer._tfidf))


def tfidf_transformer(transformer: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """Weights of counts."""
    doubles_only(flow, "TfidfTransformer")
    return [Weigh(_weighting(transformer))], Flow.numbers(flow.width, sparse=True, absent=flow.absent or not flow.sparse)


def hashing_vectorizer(vectorizer: Any, flow: Flow) -> tuple[list[Transform], Flow]:
    """How often words of each hash occur."""
    if vectorizer.n_features > flow.most:
        raise Uncovered(f"HashingVectorizer makes {vectorizer.n_features} columns; more than {flow.most} are not compiled")
    if np.dtype(vectorizer.dtype) != np.float64 or vectorizer.norm not in ("l1", "l2", None):
        raise Uncovered("HashingVectorizer with another dtype than float64 or another norm than l1 and l2 is not compiled")
    step = HashedWords(
        _analysis(vectorizer, flow),
        int(vectorizer.n_features),
        bool(vectorizer.alternate_sign),
        bool(vectorizer.binary),
        vectorizer.norm,
    )
    return [step], Flow.numbers(step.width, sparse=True, absent=not vectorizer.alternate_sign)


def _words(vectorizer: Any, flow: Flow, weighting: Weighting | None) -> tuple[list[Transform], Flow]:
    if len(vectorizer.vocabulary_) > flow.most:
        name = type(vectorizer).__name__
        raise Uncovered(f"{name} makes {len(vectorizer.vocabulary_)} columns; more than {flow.most} are not compiled")
    terms = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    step = Words(_analysis(vectorizer, flow), [str(term) for term in terms], bool(vectorizer.binary), weighting)
    return [step], Flow.numbers(len(terms), sparse=True, absent=True)


def _weighting(transformer: Any) -> Weighting:
    rarity = getattr(transformer, "idf_", None)
    return Weighting(bool(transformer.sublinear_tf), None if rarity is None else np.ravel(rarity).tolist(), transformer.norm)


def _analysis(vectorizer: Any, flow: Flow) -> Analysis:
    name = type(vectorizer).__name__
    if not flow.flat or flow.datatypes != ["BYTES"]:
        raise Uncovered(f"{name} of anything but one column of texts, given without a list around its name, is not compiled")
    for parameter in ("analyzer", "tokenizer", "preprocessor", "strip_accents"):
        if callable(getattr(vectorizer, parameter)):
            raise Uncovered(f"{name} with a function as its {parameter} is not compiled")
    if vectorizer.input != "content":
        raise Uncovered(f"{name} with input={vectorizer.input!r} is not compiled")
    shortest, longest = map(int, vectorizer.ngram_range)
    stop = sorted(vectorizer.get_stop_words() or ()) if vectorizer.analyzer == "word" else []
    return Analysis(
        vectorizer.analyzer,
        vectorizer.token_pattern or "",
        bool(vectorizer.lowercase),
        vectorizer.strip_accents or None,
        shortest,
        longest,
        stop,
    )
