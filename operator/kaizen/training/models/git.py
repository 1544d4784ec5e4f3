"""One file of a git repository at a revision, by dulwich: the image needs no git, and no shell ever sees an URL."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from kaizen.training.errors import Failure, nearest

__all__ = ["read"]

COMMIT = re.compile("[0-9a-f]{40}")
PEELED = b"^{}"
ANY_USER = "x-token-auth"
"""With a token as the password, hosts take any user or this one."""


def read(url: str, revision: str, path: str, secret: Mapping[str, str]) -> tuple[bytes, str]:
    """The file's content and the commit's name.

    Args:
        url: what `git clone` takes.
        revision: a branch, a tag or a whole commit name.
        path: within the repository.
        secret: token, or username and password; empty for a public repository.

    Raises:
        Failure: the repository, the revision or the file is not there, or the server refuses or does not answer.
    """
    import urllib3
    from dulwich.client import HTTPProxyUnauthorized, HTTPUnauthorized
    from dulwich.errors import GitProtocolError, HangupException, NotGitRepository

    try:
        return _read(url, revision, path, secret)
    except (HTTPUnauthorized, HTTPProxyUnauthorized) as problem:
        how = "check its Secret" if secret else "name a Secret with token, or with username and password, in code.secretName"
        raise _failure("CodeRefused", f"{url} refused the request: {how}", retry=True) from problem
    except NotGitRepository as problem:
        raise _failure("CodeMissing", f"there is no git repository at {url}, or it is private") from problem
    except (GitProtocolError, HangupException, urllib3.exceptions.HTTPError, OSError) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise _failure("CodeUnreachable", f"{url} cannot be fetched: {reason}", retry=True) from problem


def _read(url: str, revision: str, path: str, secret: Mapping[str, str]) -> tuple[bytes, str]:
    from dulwich.client import get_transport_and_path

    options: dict[str, Any] = {}
    if secret:
        options = {"username": secret.get("username", ANY_USER), "password": secret.get("token") or secret.get("password")}
    with ExitStack() as closing:
        client, location = get_transport_and_path(url, pool_manager=_connections(closing), **options)
        return _fetched(client, location, url, revision, path)


def _connections(closing: ExitStack) -> Any:
    """By whatever proxy the environment names; dulwich does not close every answer."""
    from dulwich.client import default_urllib3_manager

    manager: Any = default_urllib3_manager(None)
    closing.enter_context(manager)
    send = manager.request

    def request(*arguments: Any, **options: Any) -> Any:
        answer = send(*arguments, **options)
        closing.callback(answer.close)
        return answer

    manager.request = request
    return manager


def _fetched(client: Any, location: str, url: str, revision: str, path: str) -> tuple[bytes, str]:
    from dulwich.errors import NotTreeError
    from dulwich.object_store import tree_lookup_path
    from dulwich.objects import Blob, Commit
    from dulwich.repo import MemoryRepo

    repository = MemoryRepo()
    refs = {name: value for name, value in client.get_refs(location.encode()).refs.items() if value is not None}
    tip = _tip(refs, revision)
    if tip is None and not COMMIT.fullmatch(revision):
        names = [
            name.decode(errors="replace").split("/", 2)[2] for name in refs if name.startswith((b"refs/heads/", b"refs/tags/"))
        ]
        raise _failure("CodeMissing", f"{url} has no branch, tag or whole commit name {revision}: {nearest(revision, names)}")
    wanted: Any = [tip] if tip else sorted({value for name, value in refs.items() if not name.endswith(PEELED)})
    # A commit that no branch or tag names may not be asked for by itself everywhere: then everything is fetched.
    client.fetch(location, repository, determine_wants=lambda *_, **__: wanted, depth=1 if tip else None)
    name: Any = revision.encode() if COMMIT.fullmatch(revision) else tip
    if name not in repository.object_store:
        raise _failure("CodeMissing", f"{url} has no commit {revision}, or none that a branch or tag leads to")
    found: Any = repository[name]
    while not isinstance(found, Commit):  # an annotated tag
        found = repository[found.object[1]]
    try:
        _, file = tree_lookup_path(repository.__getitem__, found.tree, path.encode())
        content = repository[file]
    except (KeyError, NotTreeError) as problem:
        raise _failure("CodeMissing", f"{url} has no file {path} at {revision}") from problem
    if not isinstance(content, Blob):
        raise _failure("CodeMissing", f"{path} of {url} at {revision} is no file")
    return content.data, found.id.decode()


def _tip(refs: Mapping[Any, Any], revision: str) -> Any:
    """What a server may be asked for to get a branch or tag of this name, or this commit where one is at it; else None."""
    name = revision.encode()
    for known in (name, b"refs/heads/" + name, b"refs/tags/" + name, b"refs/" + name):
        if known in refs:
            return refs[known]
    # An annotated tag is an object of its own; the commit that it leads to is listed beside it.
    return next((refs.get(known.removesuffix(PEELED), value) for known, value in refs.items() if value == name), None)


def _failure(code: str, message: str, *, retry: bool = False) -> Failure:
    return Failure("Prepare", code, message, retry=retry)
