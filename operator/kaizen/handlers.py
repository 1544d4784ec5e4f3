"""kopf, as event source and nothing else.

No create or update handlers, timers, daemons or indexes: those would write annotations and finalizers into users'
objects.  Every handler is an `on.event` that hands the raw object over.
"""

import asyncio
import logging
import os
import signal
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
    """Run the operator until SIGTERM; 0 after a clean shutdown, 1 when the Lease was lost."""
    config = Config.from_environment(os.environ)
    code = 0
    try:
        asyncio.run(_run(config))
    except* Lost as lost:
        _log.error("stopping: %s", lost.exceptions[0])
        code = 1
    return code


async def _run(config: Config) -> None:
    client = await Client.connect()
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
    try:
        await Operator(config, client).run(watch)
    except asyncio.CancelledError:
        _log.info("stopped")
    finally:
        await client.close()


async def watch(operator: Operator) -> None:
    """Deliver every watch event to the operator; returns on SIGTERM, whose handler kopf takes over here."""
    await kopf.operator(registry=registry(operator), settings=settings(), standalone=True, clusterwide=True)


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
