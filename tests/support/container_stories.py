"""Training code of a user's own, as stories run it: plain scripts that know nothing of Kaizen but its variables."""

from typing import Any

from tests.support.cluster import SYSTEM, Cluster

BEGIN = """
import json, os, socket, sys, threading, time

def place(name):
    return os.environ["KAIZEN_" + name]

def metric(step, name, value):
    with open(place("METRICS_FILE"), "a") as file:
        print(json.dumps({"step": step, "name": name, "value": value}), file=file)
"""
TRAIN = """
import pandas as pd, skops.io
from sklearn.ensemble import HistGradientBoostingClassifier

strange = [name for name in os.environ if "SECRET" in name or "ACCESS_KEY" in name]
assert not strange, strange
with open(place("DATA_DIR") + "/schema.json") as file:
    schema = json.load(file)
target = schema["target"]["name"]
numbers = [one["name"] for one in schema["features"] if one["type"] in ("Integer", "Number")]
train = pd.read_parquet(place("DATA_DIR") + "/train.parquet")
assert len(train) == schema["rows"]["train"]
model = HistGradientBoostingClassifier(max_iter=1, warm_start=True)
for epoch in range(1, int(place("PARAMETER_EPOCHS")) + 1):
    model.set_params(max_iter=epoch).fit(train[numbers], train[target])
    metric(epoch, "accuracy", model.score(train[numbers], train[target]))
skops.io.dump(model, place("MODEL_DIR") + "/model.skops")
"""
GIVE_UP = """
print("there are", 7, "gradients too few")
sys.exit(3)
"""
EAT = """
food = [b"x" * (16 * 2**20) for _ in range(64)]
"""
RESUME = """
path = place("CHECKPOINT_DIR") + "/state.json"
if not os.path.exists(path):
    with open(path + ".tmp", "w") as file:
        json.dump({"epoch": 7}, file)
    os.replace(path + ".tmp", path)
    threading.Event().wait(300)
    sys.exit("nobody has ended this Pod")
with open(path) as file:
    metric(0, "resumed", json.load(file)["epoch"])
"""
MEET = """
rank, size, port = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["MASTER_PORT"])
deadline = time.monotonic() + 90
if rank > 0:
    while True:
        try:
            with socket.create_connection((os.environ["MASTER_ADDR"], port), timeout=5) as line:
                line.sendall(b"%d of %d" % (rank, size))
            sys.exit(0)
        except OSError as problem:
            if time.monotonic() > deadline:
                raise
            threading.Event().wait(0.2)
with socket.create_server(("", port)) as server:
    server.settimeout(90)
    line, _ = server.accept()
    with line:
        heard = line.makefile().read()
assert heard == "1 of 2", heard
metric(0, "heard", 1)
"""


def container(cluster: Cluster, *parts: str, **changes: Any) -> dict[str, Any]:
    """spec.container: these parts of a script, in an image that is in the cluster anyway and has scikit-learn."""
    deployment = cluster.get("deployment", "kaizen-operator", SYSTEM)
    assert deployment is not None
    env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    (image,) = [one["value"] for one in env if one["name"] == "KAIZEN_TRAINER_IMAGE"]
    script = "".join((BEGIN, *parts))
    return {"image": image, "command": ["python", "-c", script], "parameters": {"epochs": 12}, **changes}
