"""Tables of states as the documents' diagrams (Mermaid): what a page shows is what the code does."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

__all__ = ["drawn"]


State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


def drawn(table: Mapping[tuple[State, Event], State]) -> str:
    """Return a table as a diagram: it begins where the table does, and shows each end."""
    first = next(iter(table))[0]
    rows = [f"    {state.name} --> {target.name}: {event.value}" for (state, event), target in table.items()]
    rows += [f"    {state.name} --> [*]" for state in type(first) if getattr(state, "ended", False)]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {first.name}", *rows])
