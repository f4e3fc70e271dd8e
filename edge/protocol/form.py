"""`multipart/form-data` (RFC 7578) of a few small fields, read whole."""

from __future__ import annotations

import re
from typing import Final

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["fields_of"]

_BOUNDARY: Final = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb'content-disposition:\s*form-data\s*;[^\r\n]*?\bname="([^"\r\n]{1,64})"', re.IGNORECASE)
_MAX_FIELDS: Final = 16


def fields_of(body: bytes, content_type: bytes) -> dict[str, bytes]:
    """Return the fields of a form, by name.

    Raises:
        HeadraceError: INVALID_REQUEST; says what is wrong with it.
    """
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise _bad("its type names no boundary")
    mark = b"--" + (match[1] or match[2])
    parts = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise _bad("it is cut off before its last boundary")
    if len(parts) - 2 > _MAX_FIELDS:
        raise _bad(f"it has more than {_MAX_FIELDS} fields")
    found: dict[str, bytes] = {}
    for part in parts[1:-1]:
        head, blank, value = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not blank or name is None:
            raise _bad("a field has no name")
        found[name[1].decode("latin-1")] = value
    return found


def _bad(what: str) -> HeadraceError:
    return HeadraceError(Code.INVALID_REQUEST, f"The form cannot be read: {what}.", param="body")
