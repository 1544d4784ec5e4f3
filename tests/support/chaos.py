"""Killing things at seeded moments: the same seed kills at the same moments, counted from the start."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.support.cluster import SYSTEM, Cluster, Object
from tests.support.wait import pause


class Killer(threading.Thread):
    """Calls `kill` a number of times, with seeded pauses between, while a story goes on."""

    def __init__(self, kill: Callable[[], None], *, times: int, seed: int, shortest: float, longest: float) -> None:
        super().__init__(name="killer", daemon=True)
        self._kill = kill
        self._times = times
        self._random = random.Random(seed)
        self._range = (shortest, longest)
        self.killed = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Kill and pause in turn until all is done."""
        try:
            for _ in range(self._times):
                pause(self._random.uniform(*self._range))
                self._kill()
                self.killed += 1
        except BaseException as problem:
            self.failure = problem

    def finish(self) -> None:
        """Wait for the last kill; raises what went wrong in the thread."""
        self.join()
        if self.failure:
            raise self.failure


def kill_operator_pod(cluster: Cluster) -> None:
    """SIGKILL the operator, whatever it is doing, and remove its Pod; one whose container has not begun is only removed."""
    from hack.steps import Stop

    pod = cluster.operator_pod()
    with suppress(Stop, LookupError):
        kill_process(cluster, pod)
    kill_pod(cluster, pod)


def crash_pod(cluster: Cluster, pod: Object) -> None:
    """SIGKILL a Pod's first container, then remove the Pod, so that another one starts at once instead of after a back-off.

    Raises hack.steps.Stop when the container has ended by itself.
    """
    kill_process(cluster, pod)
    kill_pod(cluster, pod)


def kill_pod(cluster: Cluster, pod: Object) -> None:
    """Remove a Pod without any grace: its object is gone at once, its processes get SIGTERM and two seconds from the kubelet."""
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace", SYSTEM)
    cluster.delete("pod", name, namespace, "--grace-period=0", "--force", "--wait=false")


def kill_process(cluster: Cluster, pod: Object) -> None:
    """SIGKILL a Pod's first container from its node: the Pod stays, its container is started again."""
    from hack import engine
    from hack.steps import step

    this = engine.detect()
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    with step("Kill a container's process") as current:
        node = pod["spec"]["nodeName"]
        this.run(current, "exec", node, "ctr", "--namespace", "k8s.io", "task", "kill", "--signal", "SIGKILL", container)
