"""The newest request wins: work goes on in the background, and what is out of date stops at its next step.

A request is a function that returns an iterator, such as a denoising loop. To stop it is to ask for nothing more.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any

# One for all widgets: they share the processor and the model, and two pictures at half the speed help nobody.
ONE_AT_A_TIME = threading.RLock()


def in_colab() -> bool:
    """Colab does not show what a background thread changes (googlecolab/colabtools, issue 3373)."""
    return "google.colab" in sys.modules


class NewestWins:
    """Runs requests. What the newest of them yields goes to `show`, an error to `failed`; at the end, `finished` is called.

    Nothing of an older request is shown once a newer one has started, or after `cancel`. In Colab the work is done in the
    callback itself, and `Interrupt execution` is the way to stop it.
    """

    def __init__(
        self,
        show: Callable[[Any], None],
        failed: Callable[[BaseException], None],
        finished: Callable[[], None],
        background: bool | None = None,
    ):
        self.show, self.failed, self.finished = show, failed, finished
        self.background = not in_colab() if background is None else background
        self._newest = 0
        self._lock = threading.RLock()  # between "is it still the newest?" and what is then shown, nothing may change
        self._threads: list[threading.Thread] = []

    def start(self, request: Callable[[], Iterable[Any]], delay: float = 0.0, wait: bool = False) -> None:
        """Begin, and outdate what was begun before. delay: seconds in which a newer request replaces it for nothing."""
        with self._lock:
            self._newest += 1
            number = self._newest
        if wait or not self.background:
            self._work(number, request)
            return
        thread = threading.Thread(target=self._work, args=(number, request, delay), daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def cancel(self) -> None:
        """Outdate whatever is running or waiting."""
        with self._lock:
            self._newest += 1

    def wait(self, timeout: float = 60.0) -> None:
        """Until nothing runs any more, also of what a request has started itself. Raises TimeoutError."""
        end = time.monotonic() + timeout
        while thread := next((thread for thread in self._threads if thread.is_alive()), None):
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError(f"still at work after {timeout:g} s")

    def _work(self, number: int, request: Callable[[], Iterable[Any]], delay: float = 0.0) -> None:
        def if_newest(tell: Callable[..., None] | None = None, *what: Any) -> bool:
            with self._lock:
                newest = number == self._newest
                if newest and tell is not None:
                    tell(*what)
            return newest

        if delay:
            time.sleep(delay)
        with ONE_AT_A_TIME:
            if not if_newest():
                return
            try:
                with closing(iter_of(request)) as things:
                    for thing in things:
                        if not if_newest(self.show, thing):
                            return
                if_newest(self.finished)
            except (Exception, KeyboardInterrupt) as error:
                if_newest(self.failed, error)


def iter_of(request: Callable[[], Iterable[Any]]) -> Generator[Any, None, None]:
    """A generator, which `closing` can close, of whatever can be iterated. What the request raises, it raises when asked."""
    yield from request()  # and to close this closes what the request returned, if that can be closed
