"""kopf, as event source and nothing else.

No create or update handlers, timers, daemons or indexes: those would write annotations and finalizers into users'
objects.  Every handler is an `on.event` that hands the raw object over.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import kopf

from kaizen.api.base import GROUP
from kaizen.cluster.client import Client
from kaizen.cluster.lease import Lost
from kaizen.cluster.resources import CHILDREN, WATCHED
from kaizen.control.config import Config
from kaizen.control.operator import CHILD_SELECTOR, Operator

_log = logging.getLogger(__name__)


def run() -> int:
    """Run the operator until SIGTERM; 0 after a clean shutdown, 1 when it cannot go on and is to be started again."""
    config = Config.from_environment(os.environ)
    try:
        asyncio.run(_run(config))
    except BaseException as problem:
        if isinstance(problem, BaseExceptionGroup) and (lost := problem.subgroup(Lost)):
            _log.error("stopping: %s", _first(lost))
        else:
            _log.exception("stopping: the operator failed")
        return 1
    return 0


def _first(problem: BaseException) -> BaseException:
    return _first(problem.exceptions[0]) if isinstance(problem, BaseExceptionGroup) else problem


async def _run(config: Config) -> None:
    take_signals = partial(_take_signals, asyncio.current_task())
    take_signals()
    client = await Client.connect()
    try:
        with suppress(asyncio.CancelledError):  # or kopf took the signal, and the watches end by themselves
            await Operator(config, client).run(partial(watch, take_signals))
        _log.info("stopped")
    finally:
        await client.close()


def _take_signals(task: "asyncio.Task[Any] | None") -> None:
    """From now on SIGTERM and SIGINT cancel this task."""
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def watch(take_signals: Callable[[], None], operator: Operator) -> None:
    """Deliver every watch event to the operator until cancelled."""
    started = asyncio.Event()
    running = asyncio.ensure_future(
        kopf.operator(registry=registry(operator), settings=settings(), standalone=True, clusterwide=True, ready_flag=started)
    )
    starting = asyncio.ensure_future(started.wait())
    try:
        await asyncio.wait({running, starting}, return_when=asyncio.FIRST_COMPLETED)
        take_signals()  # kopf took them when it started; it would wait for our tasks before it stops.
        await running
    finally:
        running.cancel()
        starting.cancel()


def registry(operator: Operator) -> kopf.OperatorRegistry:
    """A kopf registry with one event handler per watched kind."""
    made = kopf.OperatorRegistry()

    async def on_event(*, event: kopf.RawEvent, **_: Any) -> None:
        operator.on_event(event["type"], event["object"])

    for resource in WATCHED:
        group, version = resource.group_and_version
        kopf.on.event(group, version, resource.plural, registry=made, id="kaizen")(on_event)

    @kopf.on.login(registry=made)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    return made


def settings() -> kopf.OperatorSettings:
    """kopf's settings, each where its default would surprise in production."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.scanning.disabled = True
    # Our own name, never used: with the default name kopf would remove another kopf operator's finalizer.
    made.persistence.finalizer = f"{GROUP}/kopf"
    made.watching.server_timeout = 600
    made.watching.client_timeout = 660
    made.watching.connect_timeout = 10
    made.watching.inactivity_timeout = 70
    made.watching.chunk_size = 500
    made.networking.request_timeout = 30
    made.networking.enforce_retry_after = True
    made.process.ultimate_exiting_timeout = None
    for resource in CHILDREN:
        group, version = resource.group_and_version
        made.watching.label_selectors[group, version, resource.plural] = CHILD_SELECTOR
    return made
