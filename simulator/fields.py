"""Fields of a request body, checked as vLLM's framework does, and what it says of a bad one."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["fault", "field_faults", "is_a"]

_INT: Final = ("int", "Input should be a valid integer")
_FLOAT: Final = ("float", "Input should be a valid number")
_BOOL: Final = ("bool", "Input should be a valid boolean")
_LIST: Final = ("list", "Input should be a valid list")
_DICT: Final = ("dict", "Input should be a valid dictionary")
_FIELDS: Final[dict[str, tuple[str, str]]] = {
    "max_tokens": _INT, "max_completion_tokens": _INT, "n": _INT, "seed": _INT, "min_tokens": _INT,
    "top_logprobs": _INT, "temperature": _FLOAT, "top_p": _FLOAT, "stream": _BOOL, "echo": _BOOL,
    "ignore_eos": _BOOL, "add_generation_prompt": _BOOL, "continue_final_message": _BOOL,
    "return_token_ids": _BOOL, "include_stop_str_in_output": _BOOL, "stream_options": _DICT, "tools": _LIST,
    "response_format": _DICT, "structured_outputs": _DICT,
}  # fmt: skip


def field_faults(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is malformed in `body`; numbers that came as strings are made numbers in place."""
    faults: list[dict[str, Any]] = []
    for name, value in body.items():
        kind = _FIELDS.get(name)
        if kind is None or value is None:
            continue
        expected, message = kind
        if expected == "int" and isinstance(value, float) and value.is_integer():
            body[name] = int(value)
        elif expected in ("int", "float") and isinstance(value, str):
            if not _number(body, name, value, expected):
                how = "an integer" if expected == "int" else "a number"
                message += f", unable to parse string as {how}"
                faults.append(fault(f"{expected}_parsing", f"body.{name}", message, value))
        elif not is_a(value, expected):
            faults.append(fault(f"{expected}_type", f"body.{name}", message, value))
    return faults


def _number(body: dict[str, Any], name: str, value: str, expected: str) -> bool:
    try:
        body[name] = int(value) if expected == "int" else float(value)
    except ValueError:
        return False
    return True


def is_a(value: object, expected: str) -> bool:
    """Say whether `value` is of the JSON kind `expected`; a boolean is no number."""
    if expected == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if expected == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "list": list, "dict": dict}[expected])


def fault(type_: str, loc: str, msg: str, given: object) -> dict[str, Any]:
    """Return one entry of a validation error: its kind, place and words, and what was given (c02, c03, c04d)."""
    if isinstance(given, dict | list):
        given = f"<{type(given).__name__} of {len(given)} items>"
    return {"type": type_, "loc": loc, "msg": msg, "input": str(given)}
