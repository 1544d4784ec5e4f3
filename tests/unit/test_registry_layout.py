"""Keys of the bucket: those of the contract, and no name that would reach another's part."""

from collections.abc import Callable

import pytest

from kaizen.registry import layout
from kaizen.registry.policy import workload_statements

KEYS = {
    "registry/flights/delay/": layout.registry("flights", "delay"),
    "registry/flights/delay/index.json": layout.index("flights", "delay"),
    "registry/flights/delay/versions/7/": layout.version("flights", "delay", 7),
    "registry/flights/delay/versions/7/manifest.json": layout.manifest("flights", "delay", 7),
    "registry/flights/delay/production/late.json": layout.production("flights", "delay", "late"),
    "registry/flights/delay/training.json": layout.training("flights", "delay"),
    "registry/flights/delay/audit/": layout.audit("flights", "delay"),
    "registry/flights/delay/audit/000000000042.json": layout.audit_record("flights", "delay", 42),
    "registry/flights/delay/cards/7.json": layout.card("flights", "delay", 7),
    "workloads/flights/": layout.workloads("flights"),
    "workloads/flights/runs/j1/": layout.run("flights", "j1"),
    "workloads/flights/runs/j1/run.json": layout.run_outcome("flights", "j1"),
    "workloads/flights/runs/j1/p1/": layout.attempt("flights", "j1", "p1"),
    "workloads/flights/windows/late/": layout.windows("flights", "late"),
}


@pytest.mark.parametrize(("expected", "key"), KEYS.items(), ids=KEYS)
def test_the_keys_are_those_of_the_contract(expected: str, key: str) -> None:
    assert key == expected


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\n", "a\0"])
@pytest.mark.parametrize(
    "key",
    [
        lambda name: layout.index(name, "m"),
        lambda name: layout.index("n", name),
        lambda name: layout.production("n", "m", name),
        lambda name: layout.run("n", name),
        lambda name: layout.attempt("n", "j", name),
        lambda name: layout.windows("n", name),
    ],
)
def test_a_name_is_one_part_of_a_key(key: Callable[[str], str], name: str) -> None:
    with pytest.raises(ValueError, match="cannot be one part of a key"):
        key(name)


def test_numbers_begin_at_one() -> None:
    for key in (layout.version, layout.card, layout.audit_record):
        with pytest.raises(ValueError, match="counted from 1"):
            key("n", "m", 0)


def test_an_audit_key_says_its_number() -> None:
    for sequence in (1, 42, 10**12 - 1):
        assert layout.audit_sequence(layout.audit_record("n", "m", sequence)) == sequence
    for other in (
        "audit/0.json",
        "audit/000000000000.json",
        "audit/00000000004x.json",
        "audit/000000000042",
        "audit/²00000000042.json",
    ):
        assert layout.audit_sequence(other) is None
    with pytest.raises(ValueError, match="12 digits"):
        layout.audit_record("n", "m", 10**12)


def test_the_policies_cover_the_same_parts() -> None:
    write, read, _ = workload_statements("b", "", None, "flights")
    assert write["Resource"] == [f"arn:aws:s3:::b/{layout.workloads('flights')}*"]
    assert layout.registry("flights", "m").startswith(read["Resource"][0].removeprefix("arn:aws:s3:::b/").removesuffix("*"))
