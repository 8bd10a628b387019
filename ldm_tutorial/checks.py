"""One clear error for each wrong value: which argument, what it was, what is allowed.

A value of the wrong kind raises TypeError, one out of range ValueError.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence


def one_of(argument: str, value: object, allowed: Sequence[object]) -> None:
    """Raises ValueError if the value is none of those allowed."""
    if value not in allowed:
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"{argument}={value!r} is not supported; choose one of {names}")


def whole_number(argument: str, value: object, low: int, high: int | None = None) -> int:
    """The value as an int, low ... high."""
    allowed = f"a whole number, {low} or more" if high is None else f"a whole number, {low} ... {high}"
    try:
        number = operator.index(value)  # numpy's and torch's integers too, but no floats
    except TypeError:
        raise TypeError(f"{argument}={value!r:.60} must be {allowed}") from None
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise ValueError(f"{argument}={value!r:.60} must be {allowed}")
    return number


def real_number(argument: str, value: object, low: float = -math.inf, high: float = math.inf, finite: bool = True) -> float:
    """The value as a float, low ... high; infinity only if not `finite`."""
    some = "a finite number" if finite and math.isinf(high) else "a number"
    span = "" if math.isinf(low) else f", {low:g} or more" if math.isinf(high) else f", {low:g} ... {high:g}"
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise TypeError(f"{argument}={value!r:.60} must be {some}{span}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (low <= number <= high) or (finite and math.isinf(number)):
        raise ValueError(f"{argument}={value!r:.60} must be {some}{span}")
    return number
