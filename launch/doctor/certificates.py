"""The PEM files that services are given: are they there, do key and certificate belong together, when do they end?

Nothing but the standard library reads them, so a date is asked for by a handshake in memory, in which the certificate
is trusted as it is.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from launch.doctor.finding import Finding, bad, good, warning
from launch.doctor.roles import Roles

__all__ = ["Pair", "certificates", "pairs"]

_SOON_DAYS: Final = 21
_DAY_S: Final = 86_400
#: Of both ends in a handshake; three are enough.
_TURNS: Final = 8


class Pair(NamedTuple):
    """A certificate and its key, and the authorities beside them, by the key of the setting."""

    key: str
    cert: str
    private: str
    authorities: tuple[tuple[str, str], ...]


def pairs(roles: Roles) -> Iterator[Pair]:
    """Yield what the services name: certificates with their keys, files of authorities, in inner tables as well."""
    for name, settings in roles.settings.items():
        yield from _in(name, settings)


def certificates(found: Iterator[Pair], now: datetime | None = None) -> Iterator[Finding]:
    """Judge every file.

    Args:
        found: what is named.
        now: instead of this machine's clock.
    """
    for pair in found:
        for key, path in pair.authorities:
            yield from _authority(key, path)
        if pair.cert or pair.private:
            yield _pair(pair, now or datetime.now(UTC))


def _in(name: str, settings: Any) -> Iterator[Pair]:
    texts: dict[str, str] = {}
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _in(f"{name}.{field.name}", value)
        elif isinstance(value, str):
            texts[field.name] = value
    certs = {key: value for key, value in texts.items() if key.endswith(("_cert", "_cert_file"))}
    stems = {key: key.replace("_cert", "_{}") for key in certs}
    authorities = tuple(
        (f"{name}.{key}", value)
        for key, value in texts.items()
        if value and key.endswith(("_ca", "_ca_file", "ca_file"))
    )
    for key, cert in certs.items():
        private = texts.get(stems[key].format("key"), "")
        yield Pair(f"{name}.{key}", cert, private, ())
    if authorities:
        yield Pair(name, "", "", authorities)


def _authority(key: str, path: str) -> Iterator[Finding]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except OSError as error:
        yield _unreadable(f"tls.{key}", path, error)
    else:
        yield good(f"tls.{key}", f"{path}: authorities, or a certificate that is trusted as it is")


def _pair(pair: Pair, now: datetime) -> Finding:
    check = f"tls.{pair.key}"
    if not pair.cert or not pair.private:
        return bad(check, f"{pair.cert or pair.private} stands alone", "a certificate and its key, or neither")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in (pair.cert, pair.private):
        if not Path(path).is_file():
            return bad(check, f"{path}: no such file", "put it there, or mend the setting")
    try:
        server.load_cert_chain(pair.cert, pair.private, password=_no_password)
    except (OSError, ValueError) as error:
        return _unreadable(check, f"{pair.cert} and {pair.private}", error)
    try:
        expires = _expires(server, pair.cert)
    except ssl.SSLCertVerificationError as error:
        return bad(
            check, f"{pair.cert}: {error.verify_message}", "renew it; services read it anew within two seconds"
        )
    days = (expires - now).total_seconds() / _DAY_S
    seen = f"{pair.cert} belongs to its key, and ends on {expires:%Y-%m-%d}"
    if days < 0:
        return bad(check, f"{seen}: it is over", "renew it; services read it anew within two seconds")
    if days < _SOON_DAYS:
        return warning(check, f"{seen}: in {days:.0f} days", "renew it; services read it anew within two seconds")
    return good(check, seen)


def _no_password() -> bytes:
    raise ValueError("the key is encrypted, and nobody is there to ask for its password")


def _expires(server: ssl.SSLContext, cert: str) -> datetime:
    """Return when a certificate ends.

    Raises:
        SSLCertVerificationError: it is over, or not yet valid.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True))
    waiting = list(ends)
    for _ in range(_TURNS):
        waiting = [end for end in waiting if not _shaken(end)]
    if waiting:
        raise ssl.SSLError(f"{cert}: no handshake came about")
    peer = ends[0].getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(peer["notAfter"])), UTC)


def _shaken(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _unreadable(check: str, path: str, error: Exception) -> Finding:
    if isinstance(error, FileNotFoundError):
        return bad(check, f"{path}: no such file", "put it there, or mend the setting")
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return bad(check, f"{path}: the key is another certificate's", "name the pair that belongs together")
    said = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
    return bad(check, f"{path}: cannot be used: {said}", "a PEM file that this user may read is needed")
