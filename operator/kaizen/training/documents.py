"""Reads YAML as kubectl does, where PyYAML would understand something else.

1e-3 is a number, 2013-01-01 is a text (JSON has no dates), and a key that is there twice is an error.
"""

import re
from typing import Any

import yaml

__all__ = ["read"]

_FLOAT, _TIME = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIME]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


def read(text: str) -> list[Any]:
    """The documents that are not empty.  Raises ValueError."""
    try:
        return [document for document in yaml.load_all(text, _Loader) if document is not None]
    except yaml.YAMLError as problem:
        raise ValueError(str(problem)) from problem
