"""What configuration says about models, wherever they are served: other names, chains to fall back on, policies."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Alias", "Equivalents", "Model", "Models"]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[aliases]]` table: a name that clients may ask for, and what serves it.

    A name that is also a model's own stands before it, so that a known name can get a chain to fall back on. The
    members of a chain are always models' own names.
    """

    name: Name
    #: The first that takes work serves; the next ones when it does not, or fails before its first event.
    models: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=16)]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[models]]` table: what is allowed with a model."""

    #: The engines' own name for it.
    name: Name
    #: Let another backend go on with a text answer that broke off in the middle.
    continuation: bool = False


class Equivalents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[equivalents]]` table: models that may answer for each other while one is busy, shed or away.

    Predictions and chats do not stand in for each other, whatever a table says: no adapter translates them.
    """

    #: By the engines' own names; the first in the list stands in first.
    models: Annotated[tuple[Name, ...], msgspec.Meta(min_length=2, max_length=16)]


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """All that configuration says about models."""

    aliases: tuple[Alias, ...] = ()
    models: tuple[Model, ...] = ()
    equivalents: tuple[Equivalents, ...] = ()

    def chain(self, name: str) -> tuple[str, ...]:
        """Return the models that may answer for `name`, best first: an alias's, or `name` itself."""
        return next((alias.models for alias in self.aliases if alias.name == name), (name,))

    def stand_ins(self, chain: tuple[str, ...]) -> tuple[str, ...]:
        """Return the models that may answer for those of a chain and are none of them, best first."""
        found: dict[str, None] = {}
        for group in self.equivalents:
            if any(model in group.models for model in chain):
                found |= dict.fromkeys(model for model in group.models if model not in chain)
        return tuple(found)

    def continues(self, model: str) -> bool:
        """Say whether an answer of `model` may be continued."""
        return any(one.continuation for one in self.models if one.name == model)
