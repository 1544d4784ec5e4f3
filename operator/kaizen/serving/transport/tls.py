"""TLS from a mounted Secret: tls.crt and tls.key, put to use again when they change.

New connections get the new certificate, open ones keep theirs.  A certificate that cannot be used leaves the one before in
place and is said once.  Without any the server runs and refuses each handshake, until the Secret is there.
"""

import logging
import ssl
from pathlib import Path

from kaizen.serving.problems import passes

__all__ = ["Context"]

log = logging.getLogger(__name__)

CERTIFICATE, KEY = "tls.crt", "tls.key"

Signature = tuple[tuple[int, int, int], ...]


class Context:
    """What a port needs to speak TLS."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._signature: Signature | None = None
        self._current: ssl.SSLContext | None = None
        self.problem = ""
        """Why there is no TLS, or why the certificate in use is an old one."""
        self.ssl = _empty()
        """For loop.create_server.  It has no certificate itself: each handshake is handed to the context in use, so that a
        certificate and its key change in one step."""
        self.ssl.sni_callback = self._hand_over
        self.reload_if_changed()

    @property
    def usable(self) -> bool:
        """Whether there is a certificate."""
        return self._current is not None

    def reload_if_changed(self) -> bool:
        """Put changed files to use; whether another certificate is in use now.  To be called once a second."""
        before, signature = self._signature, self._look()
        if signature == before:
            return False
        first, self._signature = before is None, signature
        context = _empty()
        try:
            # Without a password an encrypted key would be asked for on the terminal.
            context.load_cert_chain(self._directory / CERTIFICATE, self._directory / KEY, password="")
        except (OSError, ValueError) as problem:  # among them ssl.SSLError
            if passes(problem):
                self._signature = before
                return False
            self.problem = _sentence(self._directory, problem)
            log.warning("%s; %s", self.problem, "the one before stays in use" if self.usable else "no connection is taken")
            return False
        self._current, self.problem = context, ""
        log.info("%s the certificate in %s", "using" if first else "now using", self._directory)
        return not first

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._current
        return None

    def _look(self) -> Signature:
        """Taken before the files are read: if they change meanwhile, the next look finds another."""
        found: list[tuple[int, int, int]] = []
        for name in (CERTIFICATE, KEY):
            try:
                status = (self._directory / name).stat()
            except OSError:
                continue
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)


def _empty() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _sentence(directory: Path, problem: Exception) -> str:
    if missing := [name for name in (CERTIFICATE, KEY) if not (directory / name).is_file()]:
        return f"there is no {' and no '.join(missing)} in {directory}"
    if isinstance(problem, ssl.SSLError) and problem.reason == "KEY_VALUES_MISMATCH":
        return f"{KEY} in {directory} is not the key of {CERTIFICATE}"
    if isinstance(problem, OSError) and not isinstance(problem, ssl.SSLError):
        return f"{CERTIFICATE} or {KEY} in {directory} cannot be read: {problem.strerror}"
    return f"{CERTIFICATE} and {KEY} in {directory} are not a certificate and its unencrypted key in PEM"
