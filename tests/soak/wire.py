"""Mutated requests over real sockets, to a server of its own process."""

import socket
from collections import Counter
from time import monotonic

from tests.soak.corpus import Mutator, corpus
from tests.soak.fuzz import well_formed
from tests.soak.pods import Pod
from tests.soak.problems import Problem
from tests.soak.targets import AUTHORIZATION, complete, inputs_of, table_of

__all__ = ["fuzz_sockets"]


def fuzz_sockets(server: Pod, seed: int, inputs: int, first: int = 0) -> str:
    """Send so many, each on a connection of its own."""
    one, table = complete(1), table_of(complete(3)[["temp", "hour"]])
    mutator = Mutator(corpus(inputs_of(one), one.astype(object).to_dict("records"), table, AUTHORIZATION))
    found, began = Counter[int](), monotonic()
    for number in range(first, first + inputs):
        given = mutator.make(seed, number)
        received = b""
        with socket.create_connection(("127.0.0.1", server.port), 30) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for piece in given.pieces:
                    client.sendall(piece)
                client.shutdown(socket.SHUT_WR)
            except OSError:  # the server has said no, and waited for a while
                pass
            while part := client.recv(1 << 16):
                received += part
        again = f"--only sockets --seed {seed} --first {number} --inputs 1"
        try:
            statuses = well_formed(received)
        except Problem as problem:
            raise Problem(f"{problem}; again: {again}") from None
        if given.answers is not None and len(statuses) != given.answers:
            raise Problem(f"{given.answers} whole requests have the answers {statuses}; again: {again}")
        found.update(statuses)
    seconds = monotonic() - began
    statuses_text = ", ".join(f"{status}: {count:,}" for status, count in sorted(found.items()))
    return f"{inputs:,} inputs over sockets in {seconds:.0f} s ({inputs / seconds:,.0f} a second); answers {statuses_text}"
