"""The end of the operator's process, which a signal reaches in two ways."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kaizen import handlers
from kaizen.control.config import Config


class _Client:
    closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("taken_by_kopf", [True, False])
def test_says_that_it_has_stopped(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, taken_by_kopf: bool) -> None:
    """While kopf starts it takes the signals for a moment: then the watches end by themselves, and nobody is cancelled."""
    caplog.set_level(logging.INFO)
    client = _Client()

    async def connect() -> _Client:
        return client

    class Ending:
        def __init__(self, *_: Any) -> None: ...

        async def run(self, watch: Callable[..., Awaitable[None]]) -> None:
            if not taken_by_kopf:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(60)

    monkeypatch.setattr("kaizen.handlers.Client.connect", connect)
    monkeypatch.setattr(handlers, "Operator", Ending)
    monkeypatch.setattr(Config, "from_environment", lambda environment: None)
    assert handlers.run() == 0
    assert caplog.messages[-1] == "stopped"
    assert client.closed
