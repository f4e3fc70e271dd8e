"""`headrace keys`: who may ask (docs/operations/security.md).

It works on control's file, whether control runs or not. A running control sees a change within `store_poll_ms` and
tells its edges at once.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from control.store import KeyLine, Store, StoreError
from launch import config
from launch.folder import found_store
from launch.ports import PORT_BASE
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser, free_or_port
from streamkit.ops.settings import SettingsError
from streamkit.wire.keys import CLIENT_TOKENS, Tenant

__all__ = ["main"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: A tenant's settings, by option; they are `Tenant`'s fields.
_RATES: Final = {
    "requests_per_minute": "requests a minute, over all edges; 0 = no limit",
    "tokens_per_minute": "tokens a minute, over all edges; 0 = no limit",
    "max_streams": "requests under way at a time, over all edges; 0 = no limit",
    "tokens_per_day": "budget of tokens a day (UTC); 0 = none",
    "tokens_per_month": "budget of tokens a calendar month (UTC); 0 = none",
}


def main(argv: Sequence[str]) -> int:
    """Run one command on the key store and return the exit status; 2 = it cannot be done as asked."""
    return carry_out(_parser(), argv, _run, refusals=(StoreError,))


def _run(options: argparse.Namespace) -> int:
    with Store(_path(options), create=options.new) as store:
        done: int = options.run(store, options)
        return done


def _path(options: argparse.Namespace) -> str:
    """Return the store's path.

    Raises:
        SettingsError: the configuration cannot be used, or there is no store where it should be.
    """
    path = options.store or config.section(options.config, "control").store_path or found_store(options.port_base)
    if not options.new and not _exists(path):
        raise SettingsError(
            f"no key store at {path}: start control (or headrace up) in this folder once, name the store with"
            " --store, or make one with headrace keys create --new"
        )
    return str(path)


def _create(store: Store, options: argparse.Namespace) -> int:
    known = store.tenant(options.tenant)
    given = _settings(options)
    made = store.create_key(_changed(known, options.tenant, given) if given else options.tenant, note=options.note)
    # The key alone goes to standard output, so that KEY=$(headrace keys create …) works.
    print(made.key)
    print(f"{made.id} for tenant {made.tenant}; the key above is shown this once.", file=sys.stderr)
    return 0


def _list(store: Store, options: argparse.Namespace) -> int:
    lines = store.list_keys()
    tenants = {tenant.name: tenant for tenant in store.snapshot().tenants}
    if options.json:
        found = {"keys": lines, "tenants": list(tenants.values())}
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return 0
    if not lines:
        print(f"no keys in {store.path}; headrace keys create --tenant NAME makes one", file=sys.stderr)
        return 0
    rows: list[tuple[str, ...]] = [("ID", "TENANT", "MADE", "STATE", "LIMITS", "NOTE")]
    rows += [_row(line, tenants.get(line.tenant, Tenant(name=line.tenant))) for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _revoke(store: Store, options: argparse.Namespace) -> int:
    if store.revoke_key(options.id):
        print(f"{options.id} is revoked; streams that run may finish, nothing new starts")
        return 0
    known = {line.id: line for line in store.list_keys()}
    why = "was revoked before" if options.id in known else "is no key here; headrace keys list shows them"
    print(f"headrace keys: {options.id} {why}", file=sys.stderr)
    return 0 if options.id in known else 2


def _tenant(store: Store, options: argparse.Namespace) -> int:
    known = store.tenant(options.name)
    if given := _settings(options):
        known = _changed(known, options.name, given)
        store.put_tenant(known)
    if known is None:
        print(f"headrace keys: no tenant {options.name}; headrace keys create makes one", file=sys.stderr)
        return 2
    print(f"{known.name}: {_limits(known)}")
    return 0


def _budget(store: Store, options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in ("tokens_per_day", "tokens_per_month")}
    if not store.set_budget(options.id, **given):
        print(f"headrace keys: {options.id} is no valid key here; headrace keys list shows them", file=sys.stderr)
        return 2
    line = next(line for line in store.list_keys() if line.id == options.id)
    print(f"{line.id}: {_budgets(line.tokens_per_day, line.tokens_per_month) or 'no budget of its own'}")
    return 0


def _rotate(store: Store, _: argparse.Namespace) -> int:
    store.rotate_secret(CLIENT_TOKENS)
    print("every client token is void; pages get new ones from their servers")
    return 0


def _backup(store: Store, options: argparse.Namespace) -> int:
    store.backup(options.file)
    print(f"{options.file} holds all of {store.path}; it is as secret as that")
    return 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    names = (*_RATES, "max_priority", "tenant_class", "operator")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _changed(known: Tenant | None, name: str, given: dict[str, Any]) -> Tenant:
    return msgspec.structs.replace(known or Tenant(name=name), **given)


def _row(line: KeyLine, tenant: Tenant) -> tuple[str, ...]:
    made = datetime.fromtimestamp(line.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    state = "valid" if line.revoked_at is None else "revoked"
    own = _budgets(line.tokens_per_day, line.tokens_per_month)
    limits = f"{_limits(tenant)}; the key {own}" if own else _limits(tenant)
    return (line.id, line.tenant, made, state, limits, line.note)


def _limits(tenant: Tenant) -> str:
    parts = [
        f"{value} {unit}"
        for value, unit in (
            (tenant.requests_per_minute, "requests/min"),
            (tenant.tokens_per_minute, "tokens/min"),
            (tenant.max_streams, "streams"),
        )
        if value
    ]
    if budgets := _budgets(tenant.tokens_per_day, tenant.tokens_per_month):
        parts.append(budgets)
    if tenant.operator:
        parts.append("operator")
    if tenant.max_priority != 1:
        parts.append(f"priority {tenant.max_priority} at best")
    if tenant.tenant_class != "default":
        parts.append(f"class {tenant.tenant_class}")
    return ", ".join(parts) or "none"


def _budgets(per_day: int, per_month: int) -> str:
    rows = ((per_day, "tokens/day"), (per_month, "tokens/month"))
    return ", ".join(f"{value} {unit}" for value, unit in rows if value)


def _exists(path: str) -> bool:
    try:
        with open(path, "rb"):  # noqa: PTH123 - the store says better what else may be wrong with it
            return True
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _parser() -> Parser:
    parser = Parser(prog="headrace keys", description="Make, list and revoke keys; set tenants' limits.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    create = _command(commands, "create", _create, "Make a key and show it once.")
    create.add_argument("--tenant", type=_name, required=True, metavar="NAME", help="whose key it is")
    create.add_argument("--note", default="", metavar="TEXT", help="for your own memory")
    create.add_argument("--new", action="store_true", help="make the store, too, where there is none")
    _limit_options(create)

    listing = _command(commands, "list", _list, "Show every key, but for its secret.")
    listing.add_argument("--json", action="store_true", help="print JSON instead")

    revoke = _command(commands, "revoke", _revoke, "Refuse a key from now on, with its client tokens.")
    revoke.add_argument("id", metavar="ID", help="as headrace keys list shows it")

    tenant = _command(commands, "tenant", _tenant, "Show a tenant's limits, or set those that are named.")
    tenant.add_argument("name", type=_name, metavar="NAME", help="the tenant")
    _limit_options(tenant)

    budget = _command(commands, "budget", _budget, "Give one key a budget of its own, beside its tenant's.")
    budget.add_argument("id", metavar="ID", help="as headrace keys list shows it")
    for name in ("tokens_per_day", "tokens_per_month"):
        budget.add_argument(f"--{name.replace('_', '-')}", type=_count, metavar="N", help=_RATES[name])

    _command(commands, "rotate-tokens", _rotate, "Make every client token void, of every key.")

    backup = _command(commands, "backup", _backup, "Copy the store to a new file, while control runs.")
    backup.add_argument("file", metavar="FILE", help="the new file")
    return parser


def _command(commands: Any, name: str, run: Any, description: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=description, description=description)
    made.add_argument("--store", metavar="PATH", help="the key store (control.store_path)")
    made.add_argument("--config", metavar="FILE", help="a headrace.toml that names it")
    made.add_argument(
        "--port-base",
        type=free_or_port,
        default=PORT_BASE,
        metavar="N",
        help="of the headrace up that runs here (%(default)s)",
    )
    made.set_defaults(run=run, new=False)
    return made


def _limit_options(parser: argparse.ArgumentParser) -> None:
    for name, text in _RATES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=_count, metavar="N", help=text)
    parser.add_argument(
        "--max-priority", type=int, choices=range(1, 10), metavar="1-9", help="the highest it may claim; 1 = highest"
    )
    parser.add_argument(
        "--operator",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="its keys may send probes to any backend",
    )
    parser.add_argument("--tenant-class", type=_name, metavar="NAME", help="what routing tells tenants apart by")


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"expected at most 64 of A-Z a-z 0-9 . _ - , got {text!r}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1_000_000_000:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 1000000000, got {text}")
    return int(text)
