"""A one-shot timer that an epoll can wait for, with ns resolution (timerfd_create(2)).

`epoll.poll` rounds its timeout up to whole milliseconds, which would send the tokens of six streams at once where
they should be 167 us apart. Python has timerfd from 3.13 on.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_TFD_TIMER_ABSTIME: Final = 1


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Timer:
    """Becomes readable at a time of CLOCK_MONOTONIC.

    Raises:
        OSError: the kernel gives no timer.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._spec = _Itimerspec(0, 0, 0, 0)
        self._pointer = ctypes.byref(self._spec)
        self._armed_ns = 0
        self.fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def arm(self, at_ns: int) -> None:
        """Fire at `at_ns` (monotonic ns; 0 = never); a past time fires at once.

        Setting another time takes back an earlier firing, so the descriptor need not be read.
        """
        if at_ns == self._armed_ns:
            return
        self._armed_ns = at_ns
        self._spec.value_s, self._spec.value_ns = divmod(at_ns, 1_000_000_000)
        self._settime(self.fd, _TFD_TIMER_ABSTIME, self._pointer, None)
