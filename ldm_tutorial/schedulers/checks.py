"""One clear error for each wrong setting: which argument, what it was, what is allowed."""

import operator
from collections.abc import Sequence


def one_of(argument: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"{argument}={value!r} is not supported; choose one of {names}")


def whole_number(argument: str, value: object, low: int, high: int | None = None) -> int:
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high):
        allowed = f"{low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{argument}={value!r} must be a whole number, {allowed}")
    return number


def real_number(argument: str, value: object, low: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= low:
        raise ValueError(f"{argument}={value!r} must be a number, {low:g} or more")
