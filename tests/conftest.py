"""Fixtures of every test, and what all of them start from."""

from __future__ import annotations

import signal

from tests.redis_server import redis_server

__all__ = ["redis_server"]

# A shell that starts something in the background has it ignore interrupts, and so would every
# process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
