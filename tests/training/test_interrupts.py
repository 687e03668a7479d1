"""Ctrl-C waits for the end of a step; a second one does not."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from adcgs.training.interrupts import DeferredInterrupt


def test_one_interrupt_waits_until_it_is_asked_for() -> None:
    before = signal.getsignal(signal.SIGINT)
    with DeferredInterrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        done = sum(range(1000))  # the step goes on
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
    assert done == 499500
    assert signal.getsignal(signal.SIGINT) is before


def test_two_interrupts_stop_at_once() -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(1000))

    with DeferredInterrupt() as interrupt:
        with pytest.raises(KeyboardInterrupt):
            twice()
        assert interrupt.requested


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with DeferredInterrupt() as interrupt:
            seen.append((signal.getsignal(signal.SIGINT), interrupt.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
