"""Certificates and mounted Secrets for tests."""

import ssl
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["client_context", "made", "mount"]


@cache
def made(name: str) -> Mapping[str, bytes]:
    """tls.crt and tls.key of a self-signed certificate for localhost, whose subject is this name; by the command openssl."""
    with TemporaryDirectory() as directory:
        certificate, key = Path(directory, "crt"), Path(directory, "key")
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*request, *names, *files], check=True, capture_output=True)
        return {"tls.crt": certificate.read_bytes(), "tls.key": key.read_bytes()}


def mount(directory: Path, files: Mapping[str, bytes]) -> None:
    """Put files where Kubernetes puts those of a Secret, and swap its symbolic link as it does."""
    directory.mkdir(exist_ok=True)
    number = len(list(directory.iterdir()))
    place = directory / f"..{number}"
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(Path("..data", name))
    (directory / "..new").symlink_to(place.name)
    (directory / "..new").replace(directory / "..data")
    for old in directory.iterdir():
        if old.is_symlink() and not old.exists():
            old.unlink()


def client_context(*certificates: bytes) -> ssl.SSLContext:
    """A client that trusts these certificates."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata="".join(each.decode() for each in certificates))
    return context
