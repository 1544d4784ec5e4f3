"""Brings the user's own file to this machine: from the bucket, a claim, an HTTPS server or a git repository; with its digest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.api.training_data import DataSource
from kaizen.api.training_job import Code
from kaizen.registry import errors
from kaizen.training.access import Access
from kaizen.training.data import web
from kaizen.training.errors import Failure

__all__ = ["MOST_BYTES", "CodeFile", "obtain"]

STEP = "Prepare"
MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class CodeFile:
    """The file, and what identifies it."""

    name: str
    """As a person would write it: its URI, or its path in the repository at the commit."""
    content: bytes
    sha256: str
    """In hexadecimal."""
    commit: str | None
    """Of a git repository: the commit that the revision stood for."""

    def to_json(self) -> dict[str, Any]:
        """As in manifest.json and run.json."""
        return {"name": self.name, "digest": f"sha256:{self.sha256}", "commit": self.commit}


def obtain(code: Code, access: Access, scratch: Path) -> CodeFile:
    """Read the file; a local path is taken as it is.  Raises Failure."""
    scheme, separator, rest = code.uri.partition("://")
    name, commit = code.uri, None
    try:
        if code.revision or code.path or code.uri.endswith(".git"):
            if not (code.revision and code.path):
                missing = "revision, a commit, tag or branch" if not code.revision else "path, the file in the repository"
                raise _failure("InvalidCode", f"code.uri {code.uri} is a git repository: add code.{missing}")
            content, commit = _from_git(code, access)
            name = f"{code.uri}/{code.path}@{commit}"
        elif scheme == "s3":
            content = _from_bucket(code, access, rest)
        elif scheme == "pvc":
            content = _from_claim(access, rest)
        elif scheme == "https":
            content = _from_web(code, access, scratch)
        elif not separator:
            content = Path(code.uri).read_bytes()
        else:
            raise _failure(
                "InvalidCode", f"code.uri {code.uri} must be s3://BUCKET/PATH.py, pvc://CLAIM/PATH.py or https://HOST/PATH"
            )
    except OSError as problem:
        raise _failure("CodeMissing", f"code.uri {code.uri} cannot be read: {problem.strerror}") from problem
    if len(content) > MOST_BYTES:
        raise _failure("InvalidCode", f"code.uri {code.uri} has {len(content)} bytes, more than {MOST_BYTES}: it is no code")
    return CodeFile(name, content, hashlib.sha256(content).hexdigest(), commit)


def _from_bucket(code: Code, access: Access, rest: str) -> bytes:
    bucket, _, key = rest.partition("/")
    source = DataSource.model_construct(name="code", uri=code.uri, secret_name=code.secret_name)
    try:
        content, _ = access.open(source, bucket).get(key)
    except (errors.Missing, errors.NoBucket) as problem:
        raise _failure("CodeMissing", f"code.uri {code.uri}: {problem}") from problem
    except (errors.Refused, errors.Unreachable) as problem:
        kind = "CodeRefused" if isinstance(problem, errors.Refused) else "CodeUnreachable"
        raise _failure(kind, f"code.uri {code.uri}: {problem}", retry=True) from problem
    except errors.BucketError as problem:
        raise _failure("CodeUnreadable", f"code.uri {code.uri}: {problem}") from problem
    return content


def _from_claim(access: Access, rest: str) -> bytes:
    claim, _, path = rest.partition("/")
    root = access.claims / claim
    if not root.is_dir():
        raise _failure("CodeMissing", f"the PersistentVolumeClaim {claim} of code.uri is not mounted at {root}", retry=True)
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise _failure("InvalidCode", f"code.uri {path} leads out of the PersistentVolumeClaim {claim}: name a path inside it")
    return file.read_bytes()


def _from_web(code: Code, access: Access, scratch: Path) -> bytes:
    headers = web.authorization(access.secret(code.secret_name)) if code.secret_name else {}
    path = scratch / "code.py"
    try:
        web.download(code.uri, path, headers)
    except Failure as problem:
        kind = problem.code.replace("Data", "Code")
        raise _failure(kind, f"code.uri: {problem.message}", retry=problem.retry) from problem
    return path.read_bytes()


def _from_git(code: Code, access: Access) -> tuple[bytes, str]:
    from kaizen.training.models import git

    secret = access.secret(code.secret_name) if code.secret_name else {}
    return git.read(code.uri, code.revision or "", code.path or "", secret)


def _failure(code: str, message: str, *, retry: bool = False) -> Failure:
    return Failure(STEP, code, message, retry=retry)
