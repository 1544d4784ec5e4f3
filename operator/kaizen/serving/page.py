"""The page at /docs: the model's inputs, a request to try, and its answer.

One file without any part from elsewhere.  It says nothing of the model itself, but asks /openapi.json for it, with the
token that its reader types in where one is needed.
"""

import hashlib
import re
from base64 import b64encode
from functools import cache
from pathlib import Path

from kaizen.serving.transport.messages import Response

__all__ = ["response"]


@cache
def response() -> Response:
    """GET /docs."""
    html = Path(__file__).with_name("page.html").read_bytes()
    policy = (
        f"default-src 'none'; script-src {_hash(html, b'script')}; style-src {_hash(html, b'style')}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        f"Content-Security-Policy: {policy}\r\nX-Content-Type-Options: nosniff\r\n"
        "Referrer-Policy: no-referrer\r\nCache-Control: no-cache\r\n"
    )
    return Response(html, headers=headers.encode(), content_type=b"text/html; charset=utf-8")


def _hash(html: bytes, element: bytes) -> str:
    """The one inline element of that kind, as a content security policy names it."""
    found = re.search(b"<" + element + b">(.*?)</" + element + b">", html, re.DOTALL)
    assert found is not None
    return f"'sha256-{b64encode(hashlib.sha256(found.group(1)).digest()).decode()}'"
