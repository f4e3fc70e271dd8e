"""`headrace observe config`: what to start a site's NATS server with, or the hub's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

import msgspec

from launch import config
from streamkit.ops import settings
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser, free_or_port

__all__ = ["main"]

_KEYS: Final = (
    *("role", "site", "broker_host", "broker_port", "broker_dir", "hub_url", "leaf_host", "leaf_port"),
    *("leaf_cert_file", "leaf_key_file", "leaf_ca_file", "stream_bytes"),
)


def main(arguments: Sequence[str]) -> int:
    """Print the configuration; 2 = the settings do not make one."""
    return carry_out(_parser(), arguments, _run)


def _run(options: argparse.Namespace) -> int:
    from observe.conf import written  # noqa: PLC0415  only this command needs it
    from observe.settings import ObserveSettings  # noqa: PLC0415  as above

    found = config.section(options.config, "observe")
    given = {key: value for key in _KEYS if (value := getattr(options, key)) is not None}
    data = {**msgspec.to_builtins(found), **given}
    found = settings.convert(data, ObserveSettings, "command line", key="observe")
    print(written(found.broker()), end="")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="headrace observe config",
        description="Print the configuration of the NATS server beside a site, or at the hub:"
        " headrace observe config --site berlin > nats.conf; nats-server --config nats.conf",
    )
    parser.add_argument("--config", metavar="FILE", help="a headrace.toml; its [observe] is used")
    parser.add_argument("--role", help="edge = a site; central = the hub")
    parser.add_argument("--site", metavar="NAME", help="the site's name and JetStream domain")
    parser.add_argument("--broker-host", metavar="ADDRESS", help="where it listens for clients (loopback)")
    parser.add_argument("--broker-port", type=free_or_port, metavar="N", help="and its port; 0 = a free one")
    parser.add_argument("--broker-dir", metavar="FOLDER", help="where it keeps its streams")
    parser.add_argument("--stream-bytes", type=_bytes, metavar="N", help="bound of what it keeps of events")
    parser.add_argument("--hub-url", metavar="URL", help="a site: where the hub takes it in")
    parser.add_argument("--leaf-host", metavar="ADDRESS", help="the hub: where it takes sites in")
    parser.add_argument("--leaf-port", type=free_or_port, metavar="N", help="and its port; 0 = a free one")
    for name, what in (("cert", "its certificate"), ("key", "the key"), ("ca", "the other side's authority")):
        parser.add_argument(f"--leaf-{name}-file", metavar="FILE", help=f"between site and hub: {what}, as PEM")
    return parser


def _bytes(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of bytes, got {text}")
    return int(text)
