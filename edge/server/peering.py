"""How instances of the edge reach each other: a Unix socket within a node, TLS with two certificates beyond."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from streamkit.ops.settings import SettingsError
from streamkit.wire.ids import Instance

__all__ = ["PeerTls", "peer_socket", "peer_tls"]

#: `sun_path` of unix(7), with its closing zero.
_PATH_BYTES: Final = 107
#: Younger sockets are left alone: looking whether somebody is there is a connection that they must accept.
_OLD_S: Final = 3600


class PeerTls(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one instance, PEM."""

    cert_file: str
    key_file: str
    #: The authority of all peers. Whoever has a certificate of it is one, so it should sign nothing else.
    ca_file: str


def peer_tls(files: PeerTls) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts for listening and for asking; both demand a certificate of the peers' authority.

    Raises:
        SettingsError: a file cannot be used.
    """
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    serving.verify_mode = ssl.CERT_REQUIRED
    for context in (serving, asking):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(files.ca_file)
            context.load_cert_chain(files.cert_file, files.key_file)
        except OSError as error:
            names = f"{files.cert_file}, {files.key_file}, {files.ca_file}"
            raise SettingsError(f"edge.peer_cert_file, peer_key_file, peer_ca_file ({names}): {error}") from None
    return serving, asking


def peer_socket(folder: str, instance: Instance) -> str:
    """Return the path of an instance's socket, in a folder that only this user can enter; old dead ones are removed.

    Args:
        folder: made if it is not there; empty = one of this user's, in the system's folder for temporary files.
        instance: whose socket.

    Raises:
        SettingsError: the folder is somebody else's, open to others, or its path too long.
    """
    where = Path(folder) if folder else Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    path = str(where / f"{instance}.sock")
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise SettingsError(
            f"edge.peer_dir: {path} is longer than the {_PATH_BYTES} bytes that a socket's path may have"
        )
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = where.lstat()
    except OSError as error:
        raise SettingsError(f"edge.peer_dir: {where}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        # Who can connect can say that it is any tenant.
        raise SettingsError(f"edge.peer_dir: {where} must be a folder of this user that nobody else can enter (0700)")
    for other in where.glob("*.sock"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - other.stat().st_mtime > _OLD_S and _dead(other):
                other.unlink()
    return path


def _dead(path: Path) -> bool:
    """Say whether nobody listens at a socket: its process was killed."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
