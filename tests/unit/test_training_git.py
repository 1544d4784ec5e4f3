"""A file of a git repository at a branch, a tag or a commit, fetched over HTTP without a git binary."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from dulwich import porcelain
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from kaizen.training.errors import Failure
from kaizen.training.models import git

PASSWORD = "s3cret"


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


class _Hosted:
    """A repository with three commits: v1 (an annotated tag), one that nothing names, and main."""

    def __init__(self, path: Path) -> None:
        self.commits: list[str] = []
        self.repository = porcelain.init(str(path), bare=False)
        (path / "models").mkdir()
        for number in (1, 2, 3):
            (path / "models" / "model.py").write_text(f"VERSION = {number}\n")
            porcelain.add(self.repository, [str(path / "models" / "model.py")])
            made = porcelain.commit(
                self.repository, message=f"{number}".encode(), author=b"A <a@b>", committer=b"A <a@b>", sign=False
            )
            self.commits.append(made.decode())
            if number == 1:
                porcelain.tag_create(self.repository, b"v1", author=b"A <a@b>", message=b"first", annotated=True, sign=False)
        porcelain.branch_create(self.repository, b"release/next")
        self.url = ""
        self.needs_password = False


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Hosted]:
    """Served over smart HTTP."""
    path = tmp_path_factory.mktemp("repository")
    made = _Hosted(path)
    served = Repo(str(path))
    chain = make_wsgi_chain(DictBackend({"/code.git": cast(Any, served)}))

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if made.needs_password and "HTTP_AUTHORIZATION" not in environ:
            start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="git"'), ("Content-Length", "0")])
            return []
        return chain(environ, start)

    with make_server("127.0.0.1", 0, application, handler_class=_Quiet) as server:
        made.url = f"http://127.0.0.1:{server.server_port}/code.git"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        server.shutdown()
        thread.join()
        made.repository.close()
        served.close()


@pytest.mark.parametrize(("revision", "number"), [("v1", 1), ("refs/tags/v1", 1), ("master", 3), ("release/next", 3)])
def test_a_branch_or_tag_by_name(hosted: _Hosted, revision: str, number: int) -> None:
    content, commit = git.read(hosted.url, revision, "models/model.py", {})
    assert content == f"VERSION = {number}\n".encode()
    assert commit == hosted.commits[number - 1]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_commit_whether_something_names_it_or_not(hosted: _Hosted, number: int) -> None:
    content, commit = git.read(hosted.url, hosted.commits[number - 1], "models/model.py", {})
    assert (content, commit) == (f"VERSION = {number}\n".encode(), hosted.commits[number - 1])


def test_credentials(hosted: _Hosted) -> None:
    hosted.needs_password = True
    try:
        with pytest.raises(Failure) as failed:
            git.read(hosted.url, "v1", "models/model.py", {})
        assert (failed.value.code, failed.value.retry) == ("CodeRefused", True)
        assert "code.secretName" in failed.value.message
        assert git.read(hosted.url, "v1", "models/model.py", {"token": PASSWORD})[0] == b"VERSION = 1\n"
    finally:
        hosted.needs_password = False


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"revision": "v11"}, "CodeMissing", "no branch, tag or whole commit name v11: did you mean v1?"),
        ({"revision": "0" * 40}, "CodeMissing", "no commit 0000"),
        ({"path": "models/other.py"}, "CodeMissing", "no file models/other.py at v1"),
        ({"path": "models"}, "CodeMissing", "models of"),
        ({"path": "models/model.py/x"}, "CodeMissing", "no file models/model.py/x"),
        ({"url": "/missing.git"}, "CodeMissing", "no git repository at"),
    ],
)
def test_what_is_not_there_is_named(hosted: _Hosted, change: dict[str, str], code: str, sentence: str) -> None:
    url = hosted.url.replace("/code.git", change.get("url", "/code.git"))
    with pytest.raises(Failure) as failed:
        git.read(url, change.get("revision", "v1"), change.get("path", "models/model.py"), {})
    assert failed.value.code == code
    assert sentence in failed.value.message


def test_a_server_that_is_away_is_tried_again() -> None:
    with pytest.raises(Failure) as failed:
        git.read("http://127.0.0.1:9/code.git", "main", "model.py", {})
    assert (failed.value.code, failed.value.retry) == ("CodeUnreachable", True)
