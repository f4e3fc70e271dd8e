"""A Dockerfile as its instructions, for the rules that are held without a container engine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
_WORD = re.compile(r"^(?P<word>[A-Z]+)\s+(?P<rest>.*)$", re.DOTALL)


@dataclass
class Stage:
    """One stage: its base, its name, its instructions in order."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """Return what follows each instruction of that word."""
        return [rest for found, rest in self.instructions if found == word]

    def last(self, word: str) -> str:
        """Return what follows the last one; AssertionError if there is none."""
        found = self.all(word)
        assert found, f"stage {self.name} has no {word}"
        return found[-1]


def parsed(text: str) -> tuple[dict[str, str], list[Stage]]:
    """Return the arguments before the first stage, and the stages."""
    joined = re.sub(
        r"\\\n\s*", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    )
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        match = _WORD.match(line)
        assert match, f"no instruction: {line}"
        word, rest = match["word"], match["rest"]
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        elif stages:
            stages[-1].instructions.append((word, rest))
        else:
            assert word == "ARG", f"{word} before the first FROM"
            name, _, value = rest.partition("=")
            arguments[name] = value
    return arguments, stages


def exec_form(rest: str) -> list[str]:
    """Return the words of an instruction in exec form; AssertionError if it is in shell form."""
    found = json.loads(rest)
    assert isinstance(found, list)
    return [str(word) for word in found]
