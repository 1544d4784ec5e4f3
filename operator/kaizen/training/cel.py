"""Evaluates the CEL of the schemas' rules where there is no API server, so that a terminal says the same as `kubectl apply`.

The part of the language that the rules use (github.com/google/cel-spec, langdef.md): selection, `has`, `all`, `filter`, `size`,
`int`, `double`, `matches`, `startsWith`, `endsWith`, `in`, lists, arithmetic by + and -, comparisons, `!`, `&&`, `||` and `?:`.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["NotCel", "compiled"]

Scope = Mapping[str, Any]
Term = Callable[[Scope], Any]


def _int(value: float) -> int:
    """Cut to a whole number of 64 bits."""
    whole = int(value)
    if not -(2**63) <= whole < 2**63:
        raise OverflowError
    return whole


_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|'((?:[^'\\]|\\.)*)'|([A-Za-z_]\w*)|(&&|\|\||[=!<>]=|[-+<>!?:.,()\[\]]))")
_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": lambda item, items: item in items,
}  # fmt: skip
_SUMS: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"size": len, "int": _int, "double": float}
_METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
}
_CONSTANTS = {"true": True, "false": False}


class NotCel(ValueError):
    """An expression that is none, or uses more of the language than is known here."""


def compiled(expression: str) -> Callable[[Any], bool]:
    """A function of `self`, false also where the API server could not evaluate the rule.  Raises NotCel."""
    parser = _Parser(expression)
    term = parser.expression()
    parser.end()

    def holds(value: Any) -> bool:
        try:
            return bool(term({"self": value}))
        except OverflowError:
            return False

    return holds


@dataclass(frozen=True)
class _Field:
    """A field of an object: what `has` asks for."""

    of: Term
    name: str

    def __call__(self, scope: Scope) -> Any:
        return self.of(scope)[self.name]

    def present(self, scope: Scope) -> bool:
        return self.name in self.of(scope)


class _Parser:
    """By recursive descent, one method for each level of precedence."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._tokens: list[tuple[str, str]] = []
        """Kind (number, text, name or sign) and content, the last one first."""
        at, end = 0, len(expression.rstrip())
        while at < end:
            found = _TOKEN.match(expression, at)
            if found is None:
                raise NotCel(f"{expression!r}: {expression[at:]!r} is not understood")
            at = found.end()
            kind = ("number", "text", "name", "sign")[(found.lastindex or 1) - 1]
            self._tokens.append((kind, found[found.lastindex or 1]))
        self._tokens.reverse()

    def end(self) -> None:
        if self._tokens:
            raise self._unexpected()

    def expression(self) -> Term:
        condition = self._any()
        if not self._taken("?"):
            return condition
        yes = self._any()
        self._expect(":")
        no = self.expression()
        return lambda scope: yes(scope) if condition(scope) else no(scope)

    def _any(self) -> Term:
        left = self._all()
        while self._taken("||"):
            left = _either(left, self._all())
        return left

    def _all(self) -> Term:
        left = self._relation()
        while self._taken("&&"):
            left = _both(left, self._relation())
        return left

    def _relation(self) -> Term:
        left = self._sum()
        while (sign := self._one_of(_RELATIONS)) is not None:
            left = _applied(_RELATIONS[sign], left, self._sum())
        return left

    def _sum(self) -> Term:
        left = self._unary()
        while (sign := self._one_of(_SUMS)) is not None:
            left = _applied(_SUMS[sign], left, self._unary())
        return left

    def _unary(self) -> Term:
        if not self._taken("!"):
            return self._member()
        inner = self._unary()
        return lambda scope: not inner(scope)

    def _member(self) -> Term:
        term = self._primary()
        while self._taken("."):
            name = self._take("name")
            term = self._called(term, name) if self._taken("(") else _Field(term, name)
        return term

    def _called(self, of: Term, name: str) -> Term:
        if name in ("all", "filter"):
            variable = self._take("name")
            self._expect(",")
            holds = self.expression()
            self._expect(")")
            return _over(of, variable, holds, every=name == "all")
        if name not in _METHODS:
            raise NotCel(f"{self._text!r}: {name} is not known here")
        argument = self.expression()
        self._expect(")")
        return _applied(_METHODS[name], of, argument)

    def _primary(self) -> Term:
        if self._taken("("):
            inner = self.expression()
            self._expect(")")
            return inner
        if self._taken("["):
            return self._list()
        kind, content = self._tokens.pop() if self._tokens else ("end", "")
        if kind == "number":
            return _constant(float(content) if "." in content else int(content))
        if kind == "text":
            return _constant(re.sub(r"\\(.)", r"\1", content))
        if kind != "name":
            self._tokens.append((kind, content))
            raise self._unexpected()
        if self._taken("("):
            return self._function(content)
        return _constant(_CONSTANTS[content]) if content in _CONSTANTS else lambda scope: scope[content]

    def _list(self) -> Term:
        items: list[Term] = []
        while not self._taken("]"):
            items.append(self.expression())
            if not self._taken(","):
                self._expect("]")
                break
        return lambda scope: [item(scope) for item in items]

    def _function(self, name: str) -> Term:
        argument = self.expression()
        self._expect(")")
        if name == "has" and isinstance(argument, _Field):
            return argument.present
        if name not in _FUNCTIONS:
            raise NotCel(f"{self._text!r}: {name} is not known here")
        function = _FUNCTIONS[name]
        return lambda scope: function(argument(scope))

    def _taken(self, sign: str) -> bool:
        return self._one_of((sign,)) is not None

    def _one_of(self, signs: Any) -> str | None:
        """The next token, taken, where it is one of these."""
        if self._tokens and self._tokens[-1][0] in ("sign", "name") and self._tokens[-1][1] in signs:
            return self._tokens.pop()[1]
        return None

    def _expect(self, sign: str) -> None:
        if not self._taken(sign):
            raise self._unexpected()

    def _take(self, kind: str) -> str:
        if not self._tokens or self._tokens[-1][0] != kind:
            raise self._unexpected()
        return self._tokens.pop()[1]

    def _unexpected(self) -> NotCel:
        return NotCel(
            f"{self._text!r}: {self._tokens[-1][1]!r} is unexpected" if self._tokens else f"{self._text!r} is cut short"
        )


def _constant(value: Any) -> Term:
    return lambda scope: value


def _applied(function: Callable[[Any, Any], Any], left: Term, right: Term) -> Term:
    return lambda scope: function(left(scope), right(scope))


def _either(left: Term, right: Term) -> Term:
    return lambda scope: left(scope) or right(scope)


def _both(left: Term, right: Term) -> Term:
    return lambda scope: left(scope) and right(scope)


def _over(of: Term, variable: str, holds: Term, *, every: bool) -> Term:
    """The macros `all` and `filter`."""
    if every:
        return lambda scope: all(holds({**scope, variable: item}) for item in of(scope))
    return lambda scope: [item for item in of(scope) if holds({**scope, variable: item})]
