"""The whole loop under kills of operator, trainers and servers: trained, served, drifted, retrained, replaced, as without.

Twenty times the operator, two trainers and three servers, each by SIGKILL.  Two things are compared when all is over.

The registry.  Its documents must be literals, and both versions, file for file and byte for byte, what the TrainingJobs' specs
make of the same rows in this process, where nobody is killed.  Left out is what differs between two undisturbed runs:

- times, and the writer ids of conditional writes;
- uids, and digests of what lies in the registry: each becomes the name of what it is of, so that it still has to lead there;
- the distance of the drift, which depends on which requests a span happened to see;
- the bytes of model.skops, an archive whose entries are named by addresses in memory, and so its digest and size in
  manifest.json: the pipeline in it is compared instead.

This process may have another Python and another SciPy than the trainer's image: it names those of the image.  Its champion for
version 2 is the registered version 1, so that championDigest must be equal, too.

The windows.  Every row that a client got an answer for is counted, and none twice.  Of a Pod that ended by SIGTERM, or lives,
no row may be missing.  Of one that was killed, those in the window that was open may be, and those in the one before if that
had ended less than WINDOW_GRACE_SECONDS ago, which is how long the operator waits for windows.  The Pod lived until its last
answer at least; so its windows that had ended by the boundary before that, less the grace, hold all that was answered until
then.  No rate is in this bound, and it finds a window that is missing in the middle.  Clients and servers share a clock: kind's
nodes run on this machine.
"""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version as installed
from math import inf
from pathlib import Path
from typing import Any

import joblib
import pytest
import skops.io

from hack.steps import Stop
from kaizen.core.inference_service import WINDOW_GRACE_SECONDS
from kaizen.monitoring import windows
from kaizen.monitoring.windows import Window
from kaizen.registry import layout, manifest
from kaizen.training import job
from kaizen.training.access import Access
from kaizen.training.judge.gates import Champion
from kaizen.training.spec import read_spec
from tests.support import chaos, service_stories, traffic, training
from tests.support.cluster import Cluster, Object
from tests.support.service_stories import SERVICE, WEEK, Lake, fresh_model, serves, service, windy
from tests.support.traffic import Sent
from tests.support.wait import pause, until

SEED = 20261121
OPERATOR_KILLS = 20
TRAINER_SECONDS = 2.0
"""A trainer is killed at most so long after it was seen running."""
FEWEST_ANSWERS, MOST_ANSWERS = 16, 24
"""A server is killed after so many: its client asks every 0.6 s, so it has written a window, and has another one open."""
END_SECONDS = 420


def test_kills_of_everything_change_nothing_of_the_end(cluster: Cluster, namespace: str, lake: Lake, tmp_path: Path) -> None:
    model, chance = fresh_model(), random.Random(SEED)
    storm = windy(training.table(4 * WEEK, seed=2, start=training.START + 12 * WEEK * training.HOUR))
    operators = chaos.Killer(lambda: _kill_operator(cluster), times=OPERATOR_KILLS, seed=SEED, shortest=1.0, longest=8.0)
    moments = [chance.uniform(0, TRAINER_SECONDS) for _ in range(2)]
    trainers = [_trainer_killer(cluster, namespace, f"{model}-auto-{number}", moments[number - 1]) for number in (1, 2)]
    killed: set[str] = set()
    operators.start()
    trainers[0].start()
    cluster.apply(service(model, training=service_stories.retraining(lake, cooldownSeconds=5)), namespace=namespace)
    _wait_serves(cluster, namespace, 1)
    first_lake = lake.objects()
    lake.add("second", storm)
    trainers[1].start()
    with traffic.flowing(cluster, namespace, SERVICE, model, storm, 40) as sent:
        killed.add(_kill_server(cluster, namespace, sent, killed, 1, chance.randint(FEWEST_ANSWERS, MOST_ANSWERS)))
        _wait_serves(cluster, namespace, 2)
        until("version 1 ends with its client still asking", lambda: not _servers(cluster, namespace, 1), 120)
        for _ in range(2):
            killed.add(_kill_server(cluster, namespace, sent, killed, 2, chance.randint(FEWEST_ANSWERS, MOST_ANSWERS)))
        until("a third Pod of version 2 answers", lambda: _answering(sent, killed, 2, 1), 120)
    for killer in (operators, *trainers):
        killer.finish()
    cluster.wait_ready("kaizen-operator")
    _wait_serves(cluster, namespace, 2)
    assert operators.killed == OPERATOR_KILLS
    _check_objects(cluster, namespace, model)
    _check_registry(cluster, namespace, model, lake)
    _check_versions(cluster, namespace, model, lake, {1: first_lake, 2: lake.objects()}, tmp_path)
    _check_windows(lake, namespace, tuple(sent), killed)


def _kill_operator(cluster: Cluster) -> None:
    def kill() -> bool:
        try:
            chaos.crash_pod(cluster, cluster.operator_pod())
        except Stop:
            return False  # its container ended by itself, and is started again
        return True

    until("the operator is killed", kill, 60)


def _trainer_killer(cluster: Cluster, namespace: str, name: str, moment: float) -> chaos.Killer:
    """Kills the first Pod of a TrainingJob, so many seconds after it is seen running."""

    def kill() -> None:
        pod = until(f"a Pod of {name} runs", running, END_SECONDS)
        pause(moment)
        with suppress(Stop):  # it ended by itself before
            chaos.crash_pod(cluster, pod)

    def running() -> Object | None:
        pods = cluster.list("pod", namespace, f"mlops.kaizen.dev/training-job={name}")
        return next((pod for pod in pods if pod["status"].get("phase") != "Pending"), None)

    return chaos.Killer(kill, times=1, seed=SEED, shortest=0, longest=0)


def _kill_server(
    cluster: Cluster, namespace: str, sent: Sequence[Sent], killed: Collection[str], version: int, answers: int
) -> str:
    """Kill a server Pod of a version after it has answered so often; returns its uid."""
    what = f"a Pod of version {version} answers {answers} times"
    uid = until(what, lambda: _answering(sent, killed, version, answers), 120, lambda: cluster.dump("pod", "", namespace))
    chaos.crash_pod(cluster, next(pod for pod in _servers(cluster, namespace, version) if pod["metadata"]["uid"] == uid))
    return uid


def _answering(sent: Sequence[Sent], killed: Collection[str], version: int, answers: int) -> str | None:
    """The uid of a living Pod that answered so often with this version."""
    counts = Counter(one.pod for one in tuple(sent) if one.version == version and one.pod not in killed)
    return next((pod for pod, count in counts.items() if count >= answers), None)


def _servers(cluster: Cluster, namespace: str, version: int) -> list[Object]:
    return cluster.list("pod", namespace, f"mlops.kaizen.dev/service={SERVICE},mlops.kaizen.dev/version={version}")


def _wait_serves(cluster: Cluster, namespace: str, version: int) -> None:
    until(
        f"version {version} serves",
        lambda: serves(cluster, namespace, version),
        END_SECONDS,
        lambda: cluster.dump("inferenceservice", SERVICE, namespace),
    )


def _check_objects(cluster: Cluster, namespace: str, model: str) -> None:
    """Two TrainingJobs with one Job each, and two ModelVersions."""
    runs = {body["metadata"]["name"]: body["metadata"]["uid"] for body in cluster.list("trainingjob", namespace)}
    assert sorted(runs) == [f"{model}-auto-1", f"{model}-auto-2"]
    jobs = [body["metadata"] for body in cluster.list("job", namespace) if not body["metadata"]["name"].endswith("-rows")]
    assert {one["name"]: one["ownerReferences"][0]["uid"] for one in jobs} == runs
    assert sorted(body["metadata"]["name"] for body in cluster.list("modelversion", namespace)) == [f"{model}-v1", f"{model}-v2"]


INITIAL = "the newest version that may serve, made by TrainingJob MODEL-auto-1 because of Initial"
DRIFT = "the newest version that may serve, made by TrainingJob MODEL-auto-2 because of DataDrift (wind)"
DIGEST_1, DIGEST_2 = "DIGEST of versions/1/manifest.json", "DIGEST of versions/2/manifest.json"
ENTRY: dict[str, Any] = {"state": "Committed", "createdAt": "TIME", "reason": None}
POINTER = f"production/{SERVICE}.json"
DISTANCE: dict[str, Any] = {"wind": "DISTANCE"}
AUDIT: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("Registered", "operator", "versions/1/", DIGEST_1, {"run": "UID of auto-1"}),
    ("PromotionIntended", "operator/1", POINTER, DIGEST_1, {"version": 1, "from": None, "reason": INITIAL}),
    ("Promoted", "operator/1", POINTER, DIGEST_1, {"version": 1, "intent": 2}),
    ("Registered", "operator", "versions/2/", DIGEST_2, {"run": "UID of auto-2"}),
    ("PromotionIntended", "operator/1", POINTER, DIGEST_2, {"version": 2, "from": 1, "reason": DRIFT}),
    ("Promoted", "operator/1", POINTER, DIGEST_2, {"version": 2, "intent": 5}),
)
REGISTRY: dict[str, Any] = {
    "index.json": {
        "versions": [
            {"version": 1, "run": "UID of auto-1", "digest": DIGEST_1, "audit": 0, **ENTRY},
            {"version": 2, "run": "UID of auto-2", "digest": DIGEST_2, "audit": 3, **ENTRY},
        ]
    },
    POINTER: {
        "version": 2,
        "digest": DIGEST_2,
        "since": "TIME",
        "audit": 5,
        "reason": DRIFT,
        "history": [{"version": 1, "time": "TIME", "reason": INITIAL}, {"version": 2, "time": "TIME", "reason": DRIFT}],
    },
    "training.json": {
        "nextJob": 3,
        "open": None,
        "last": {
            "number": 2,
            "service": SERVICE,
            "cause": "DataDrift",
            "started": "TIME",
            "spec": "UID of the service/1",
            "drift": DISTANCE,
        },
        "failuresInARow": 0,
        "acknowledged": DISTANCE,
        "rolledBack": {},
    },
} | {
    f"audit/{number:012d}.json": {
        "sequence": number,
        "action": action,
        "actor": actor,
        "object": what,
        "digest": digest,
        "details": details,
        "time": "TIME",
        "previous": f"DIGEST of audit/{number - 1:012d}.json" if number > 1 else None,
    }
    for number, (action, actor, what, digest, details) in enumerate(AUDIT, 1)
}
"""What lies in the registry beside the versions' files after the same story without kills."""


def _check_registry(cluster: Cluster, namespace: str, model: str, lake: Lake) -> None:
    uids = {
        body["metadata"]["uid"]: f"UID of {name}"
        for kind, object_name, name in (
            ("trainingjob", f"{model}-auto-1", "auto-1"),
            ("trainingjob", f"{model}-auto-2", "auto-2"),
            ("inferenceservice", SERVICE, "the service"),
        )
        if (body := cluster.get(kind, object_name, namespace))
    }

    def found() -> dict[str, Any]:
        prefix = layout.registry(namespace, model)
        bodies = {entry.key.removeprefix(prefix): lake.bucket.get(entry.key)[0] for entry in lake.bucket.list(prefix)}
        digests = {manifest.sha256(body): f"DIGEST of {key}" for key, body in bodies.items()}
        names = {**digests, **uids, model: "MODEL"}
        return {key: _masked(body.decode(), names) for key, body in bodies.items() if not key.startswith("versions/")}

    until("all is recorded as without kills", lambda: found() == REGISTRY, 90, lambda: json.dumps(found(), indent=1))


def _masked(text: str, names: Mapping[str, str]) -> Any:
    """A document without what differs between any two runs."""
    for value, name in names.items():
        text = text.replace(value, name)
    text = re.sub(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', '"TIME"', text)
    text = re.sub(r'"wind": [0-9.]+', '"wind": "DISTANCE"', text)
    return {name: value for name, value in json.loads(text).items() if name != "writer"}


def _check_versions(
    cluster: Cluster, namespace: str, model: str, lake: Lake, lakes: Mapping[int, Mapping[str, bytes]], directory: Path
) -> None:
    """Each version is what its TrainingJob's spec makes of the lake as it was."""
    champion = None
    for number, rows in lakes.items():
        registered, again = directory / f"registered-{number}", directory / f"again-{number}"
        _download(lake, layout.version(namespace, model, number), registered)
        document = json.loads((registered / layout.MANIFEST).read_bytes())
        body = cluster.get("trainingjob", f"{model}-auto-{number}", namespace)
        assert body is not None
        facts = {name: document[name] for name in ("recipeDigest", "lineage")}
        with _in_the_image(document, rows):
            around = job.Surroundings(Access(None), training.Silent(), champion, facts=facts)
            result = job.run(read_spec(body["spec"]), around, again)
        assert result.manifest["modelDigest"] == document["modelDigest"]
        theirs, ours = _comparable(registered), _comparable(again)
        assert sorted(theirs) == sorted(ours)
        assert [path for path in theirs if theirs[path] != ours[path]] == []
        digest = manifest.sha256((registered / layout.MANIFEST).read_bytes())
        champion = Champion.open(registered, f"version {number}", digest)


@contextmanager
def _in_the_image(document: Mapping[str, Any], rows: Mapping[str, bytes]) -> Iterator[None]:
    """Training calls Python, packages and code as this manifest does, and finds these objects in its bucket."""
    versions = document["versions"]
    bucket = training.MemoryBucket(rows).as_bucket()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platform.python_version", lambda: versions["python"])
        patch.setattr("importlib.metadata.version", lambda name: versions.get(name) or installed(name))
        patch.setattr(job, "code_digest", lambda more: document["codeDigest"])
        patch.setattr(Access, "open", lambda *_: bucket)
        yield


def _comparable(directory: Path) -> dict[str, bytes]:
    """The files of a model directory, with what model.skops holds in place of its bytes, size and digest."""
    found = {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    own = rb'("path": "model.skops",\s+"sha256": )"[0-9a-f]{64}"(,\s+"size": )[0-9]+'
    found[layout.MANIFEST], times = re.subn(own, rb"\1SHA256\2SIZE", found[layout.MANIFEST])
    assert times == 1
    path = directory / "model.skops"
    held = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    return {**found, "model.skops": joblib.hash(held).encode()}


def _download(lake: Lake, prefix: str, directory: Path) -> None:
    for entry in lake.bucket.list(prefix):
        path = directory / entry.key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lake.bucket.get(entry.key)[0])


def _check_windows(lake: Lake, namespace: str, sent: Sequence[Sent], killed: Collection[str]) -> None:
    """What was answered was counted, and once."""
    pods: dict[str, list[Sent]] = defaultdict(list)
    for one in sent:
        pods[one.pod].append(one)

    def problems() -> list[str]:
        counted = _windows(lake, namespace, int(sent[0].at))
        return [problem for pod, asked in pods.items() for problem in _miscounts(asked, counted[pod], pod in killed)]

    until("every window is written", lambda: not problems(), 60, lambda: "\n".join(problems()))
    versions = {pod: {one.version for one in asked if one.version} for pod, asked in pods.items()}
    assert sorted(version for pod in killed for version in versions[pod]) == [1, 2, 2]
    assert {version for pod in pods.keys() - killed for version in versions[pod]} == {1, 2}, "one ended well and one lives"


def _miscounts(asked: Sequence[Sent], counted: Sequence[Window], killed: bool) -> Iterator[str]:
    """What is wrong with the windows of a Pod."""
    answered = [one for one in asked if one.version]
    if not answered:
        return
    whole = inf
    if killed:
        seconds = service("any")["spec"]["monitoring"]["windowSeconds"]
        whole = (answered[-1].at - WINDOW_GRACE_SECONDS) // seconds * seconds
    wanted, most = sum(one.rows for one in answered if one.at < whole), sum(one.rows for one in asked)
    found, rows = sum(one.rows for one in counted if one.end <= whole), sum(one.rows for one in counted)
    about = f"Pod {answered[0].pod} of version {answered[0].version}{', killed' if killed else ''}"
    if not wanted or found < wanted:
        yield f"{about}: {wanted} rows were answered before {whole:.0f}, {found} are in windows that had ended: {counted}"
    if rows > most:
        yield f"{about}: {rows} rows were counted, {most} were sent"
    if {one.version for one in counted} != {one.version for one in answered} or any(one.rejected for one in counted):
        yield f"{about}: {counted}"


def _windows(lake: Lake, namespace: str, since: int) -> dict[str, list[Window]]:
    """The windows that began in the minute before `since` or later, by the Pod's uid."""
    found: dict[str, list[Window]] = defaultdict(list)
    prefix = layout.windows(namespace, SERVICE)
    for entry in lake.bucket.list(prefix, f"{prefix}{since - 60}"):
        window = windows.from_json(lake.bucket.read(entry.key)[0])
        found[window.source.rsplit("-", 2)[0]].append(window)
    return found
