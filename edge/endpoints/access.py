"""Who is asking, and with which rights: keys and client tokens, checked by the edge itself (law 1).

access.check(scope)                                 # any HTTP request
access.admit(credential, origin=…, priority=…)      # a key or a token that came another way: WebSocket, WHEP
caller.check_model(name); caller.check_avatar(name) # what a client token is scoped to
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from edge.transports.http import Scope, header
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import CLIENT_TOKENS, KeySnapshot, Tenant, digest
from streamkit.wire.state import CACHE_MS
from streamkit.wire.tokens import PREFIX as TOKEN
from streamkit.wire.tokens import Claims, verified

__all__ = ["SKEW_S", "Access", "Caller", "origin_of"]

_DEFAULT_PRIORITY: Final = 5
#: A token is taken for so long after its end: the clocks of two edges differ by that much without harm.
SKEW_S: Final = 30
_SHOWN_NAMES: Final = 20


class Caller(msgspec.Struct, frozen=True):
    """An authenticated client."""

    tenant: Tenant
    #: Id of its key, with the user's name behind a slash where a client token has one; empty where no key is needed.
    key_id: str
    #: 1 (highest) to 9, within the tenant's bound.
    priority: int
    #: What a client token is scoped to; None = a key, which may all that its tenant may.
    claims: Claims | None = None

    def may_use(self, model: str) -> bool:
        """Say whether the caller's scope has this model."""
        return self.claims is None or self.claims.models is None or model in self.claims.models

    def check_model(self, model: str) -> None:
        """Return if the caller may use this model.

        Raises:
            HeadraceError: FORBIDDEN; the scope of its token does not name it.
        """
        if not self.may_use(model):
            raise _outside("models", self.claims.models if self.claims else (), "model", model)

    def check_avatar(self, avatar: str) -> None:
        """Return if the caller may use this avatar.

        Raises:
            HeadraceError: FORBIDDEN; the scope of its token does not name it.
        """
        allowed = None if self.claims is None else self.claims.avatars
        if allowed is not None and avatar not in allowed:
            raise _outside("avatars", allowed, "avatar", avatar)


class Access:
    """Checks credentials against the newest key snapshot.

    Args:
        age_ms: milliseconds since control was last heard; None = never.
        demanded: this edge is reached from beyond its machine: keys are demanded though control knows of none.
        now: the wall clock, in seconds since 1970; tokens end by it.
    """

    def __init__(
        self,
        age_ms: Callable[[], float | None],
        *,
        demanded: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._demanded = demanded
        self._age_ms = age_ms
        self.now = now
        #: None = never had one; then nobody can be judged, and everybody is refused (design §5).
        self._snapshot: KeySnapshot | None = None
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._tenant_of: dict[str, str] = {}
        self._secret = b""
        self._anyone = Tenant(name="default")

    @property
    def signing_secret(self) -> bytes:
        """What signs client tokens; empty = control has handed out none."""
        return self._secret

    def update(self, snapshot: KeySnapshot) -> None:
        """Use a newer snapshot: a key that it lacks is refused from now on, with its tokens."""
        if snapshot == self._snapshot:
            return
        self._snapshot = snapshot
        self._tenants = {tenant.name: tenant for tenant in snapshot.tenants}
        self._keys = {record.sha256: (record.id, record.tenant) for record in snapshot.keys}
        self._tenant_of = {record.id: record.tenant for record in snapshot.keys}
        self._secret = bytes.fromhex(snapshot.secrets.get(CLIENT_TOKENS, ""))

    def check(self, scope: Scope) -> Caller:
        """Return who sends an HTTP request, by `Authorization: Bearer`.

        Raises:
            HeadraceError: see `admit`.
        """
        scheme, _, credential = header(scope, b"authorization").partition(b" ")
        return self.admit(
            credential.strip() if scheme.lower() == b"bearer" else b"",
            origin=origin_of(scope),
            priority=header(scope, b"x-headrace-priority"),
        )

    def admit(self, credential: bytes, *, origin: bytes, priority: bytes = b"") -> Caller:
        """Return whose a key or a client token is.

        Args:
            credential: as it came, from whatever place; empty = none.
            origin: `Origin` of the page that shows it; empty = no browser.
            priority: as `X-Headrace-Priority` has it; empty = the default.

        Raises:
            HeadraceError: UNAUTHORIZED; FORBIDDEN for a page that the token is not for; INVALID_REQUEST for a bad
                priority; NO_ROUTE before the first snapshot and ten minutes after the last.
        """
        if self._snapshot is None:
            text = "The control plane has not answered yet, so keys cannot be checked. Try again shortly."
            raise HeadraceError(Code.NO_ROUTE, text)
        if not (self._snapshot.required or self._demanded):
            return Caller(self._anyone, "", _priority(priority, self._anyone))
        if (self._age_ms() or 0) > CACHE_MS:
            # A key may have been revoked long ago (the staleness table of design §5).
            text = "The control plane has been silent for too long to go on trusting keys. Try again shortly."
            raise HeadraceError(Code.NO_ROUTE, text)
        if not credential:
            text = "This gateway needs a key: send `Authorization: Bearer hr-…` (headrace keys create makes one)."
            raise HeadraceError(Code.UNAUTHORIZED, text)
        shown = credential.decode("latin-1")
        if shown.startswith(TOKEN):
            return self._by_token(shown, origin, priority)
        found = self._keys.get(digest(shown))
        if found is None:
            raise HeadraceError(Code.UNAUTHORIZED, "This key is not known here, or was revoked.")
        key_id, name = found
        tenant = self._tenants.get(name) or Tenant(name=name)
        return Caller(tenant, key_id, _priority(priority, tenant))

    def _by_token(self, token: str, origin: bytes, priority: bytes) -> Caller:
        claims = verified(token, self._secret)
        if claims is None:
            raise HeadraceError(Code.UNAUTHORIZED, "This is no client token of this gateway, or was made void.")
        if self.now() > claims.expires_at + SKEW_S:
            raise HeadraceError(Code.UNAUTHORIZED, "This client token has expired; get a new one.")
        name = self._tenant_of.get(claims.key)
        if name is None:
            raise HeadraceError(Code.UNAUTHORIZED, "The key that this client token was made with was revoked.")
        if claims.origin and origin != claims.origin.encode():
            shown = origin[:200].decode("latin-1") or "no page at all"
            text = f"This client token is scoped to the origin {claims.origin}; it was used by {shown}."
            raise HeadraceError(Code.FORBIDDEN, text, param="origin")
        tenant = self._tenants.get(name) or Tenant(name=name)
        # Whoever clamps a priority by the tenant's bound clamps it by the token's as well.
        bound = max(tenant.max_priority, claims.max_priority)
        tenant = msgspec.structs.replace(tenant, max_priority=bound)
        key_id = f"{claims.key}/{claims.user}" if claims.user else claims.key
        return Caller(tenant, key_id, _priority(priority, tenant), claims)


def origin_of(scope: Scope) -> bytes:
    """Return the origin of the page that asks; browsers leave it out of a GET to the page's own origin."""
    origin = header(scope, b"origin")
    if not origin and header(scope, b"sec-fetch-site") == b"same-origin":
        scheme: str = scope.get("scheme", "http")
        return scheme.encode() + b"://" + header(scope, b"host")
    return origin


def _priority(asked: bytes, tenant: Tenant) -> int:
    """Return a priority, clamped to what the tenant may claim."""
    if not asked:
        return max(_DEFAULT_PRIORITY, tenant.max_priority)
    if asked not in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"):
        text = "`X-Headrace-Priority` must be a digit from 1 (highest) to 9."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="X-Headrace-Priority")
    return max(int(asked), tenant.max_priority)


def _outside(scope: str, allowed: tuple[str, ...] | None, param: str, asked: str) -> HeadraceError:
    names = ", ".join((allowed or ())[:_SHOWN_NAMES]) or "none"
    text = f"This client token is scoped to {scope}: {names}; `{asked[:200]}` is not among them."
    return HeadraceError(Code.FORBIDDEN, text, param=param)
