"""Signals end a run, also where foreign code changes or drops their exception."""

import dis
import logging
import os
import signal
import sys
import threading
import time

import pytest

from tfl_research import interrupts
from tfl_research.interrupts import Interrupt, Signals, raised_on_signals
from tfl_research.storage import kept_choice

BOTH = (signal.SIGINT, signal.SIGTERM)


def send(number=signal.SIGTERM):
    """Sends this process a signal; the handler's exception comes in here."""
    os.kill(os.getpid(), number)
    time.sleep(1)


def changed(number=signal.SIGTERM):
    """What TensorFlow does with an exception in the middle of tracing."""
    try:
        send(number)
    except Interrupt:
        raise AssertionError("nesting violated") from None


@pytest.fixture(autouse=True)
def handlers():
    """The block leaves the process as it was."""

    def of_process():
        filters = list(logging.getLogger("tensorflow").filters)
        return [signal.getsignal(n) for n in BOTH], sys.unraisablehook, filters

    before = of_process()
    yield
    assert of_process() == before
    interrupts.check()


@pytest.mark.parametrize("number", BOTH)
def test_an_exception_that_became_another_is_the_signals(number):
    with pytest.raises(Interrupt) as found, raised_on_signals():
        changed(number)
    assert found.value.number == number
    assert found.value.__suppress_context__


def test_a_signal_is_raised_in_the_block():
    with pytest.raises(Interrupt, match="SIGTERM"), raised_on_signals():
        send()


def test_in_other_threads_a_block_does_nothing():
    """Python handles signals in the main thread alone."""
    entered = []

    def enter():
        before = signal.getsignal(signal.SIGTERM)
        with raised_on_signals():
            entered.append(signal.getsignal(signal.SIGTERM) == before)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [True]


def test_errors_without_a_signal_stay():
    with pytest.raises(AssertionError, match="nesting"), raised_on_signals():
        raise AssertionError("nesting violated")


def test_work_that_is_done_stays_done():
    def steps():
        with pytest.raises(Interrupt):
            send()
        return 7
        yield

    with pytest.raises(StopIteration) as end, raised_on_signals():
        next(steps())
    assert end.value.value == 7


def test_a_decision_is_not_made_from_the_error_of_a_signal():
    decided = []

    def decide():
        try:
            changed()
        except AssertionError:
            interrupts.check()
            decided.append("the compiler cannot")

    with pytest.raises(Interrupt), raised_on_signals():
        decide()
    assert decided == []


def test_no_choice_is_kept_after_a_signal(tmp_path):
    path = tmp_path / "choice.json"

    def keep():
        with pytest.raises(Interrupt):
            send()
        kept_choice.keep(path, {"mode": "slow"})

    with pytest.raises(Interrupt), raised_on_signals():
        keep()
    assert not path.exists()
    kept_choice.keep(path, {"mode": "fast"})
    assert path.exists()


def test_an_inner_block_knows_the_signal_of_an_outer_one():
    with raised_on_signals() as outer:
        with pytest.raises(Interrupt), raised_on_signals():
            send()
        # It was handled there.
        interrupts.check()
        assert outer.number is None
        with pytest.raises(Interrupt):
            send()
        with raised_on_signals(Signals()), pytest.raises(Interrupt):
            interrupts.check()


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_at_any_instruction_leaves_the_process_as_it_was(number):
    """The signal is raised in the block, or comes to the earlier handlers."""
    heard = []
    earlier = {each: signal.getsignal(each) for each in BOTH}

    def hears(given, _):
        heard.append(given)

    def of_process():
        handlers = [signal.getsignal(each) for each in BOTH]
        filters = list(logging.getLogger("tensorflow").filters)
        return handlers, sys.unraisablehook, filters, list(interrupts._blocks)

    def sent_before(instruction):
        """Whether the block has so many instructions, and how it ended."""
        passed = 0

        def trace(frame, event, _):
            nonlocal passed
            if frame.f_code.co_filename != interrupts.__file__:
                return None
            frame.f_trace_opcodes = True
            # Python looks for signals at calls and jumps.
            is_idle = dis.opname[frame.f_code.co_code[frame.f_lasti]] == "NOP"
            if event == "opcode" and not is_idle:
                passed += 1
                if passed == instruction:
                    os.kill(os.getpid(), number)
            return trace

        raised = False
        sys.settrace(trace)
        try:
            with raised_on_signals():
                interrupts.check()
        except Interrupt:
            raised = True
        finally:
            sys.settrace(None)
        return passed >= instruction, raised

    traced = sys.gettrace()
    try:
        for each in BOTH:
            signal.signal(each, hears)
        before = of_process()
        instruction, is_sent = 0, True
        while is_sent:
            instruction += 1
            heard.clear()
            is_sent, raised = sent_before(instruction)
            assert of_process() == before, instruction
            assert raised + len(heard) == is_sent, instruction
    finally:
        sys.settrace(traced)
        for each in BOTH:
            signal.signal(each, earlier[each])
    assert instruction > 100


def test_a_signal_that_is_ignored_stays_ignored():
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with raised_on_signals() as signals:
            send(signal.SIGINT)
            assert signals.number is None
            with pytest.raises(Interrupt, match="SIGTERM"):
                send()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, earlier)


def test_other_threads_are_not_asked():
    asked = []

    def ask():
        interrupts.check()
        asked.append(True)

    with raised_on_signals():
        with pytest.raises(Interrupt):
            send()
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert asked == [True]


def test_tensorflow_logs_nothing_after_a_signal(caplog):
    logger = logging.getLogger("tensorflow")
    with raised_on_signals():
        logger.error("before")
        with pytest.raises(Interrupt):
            send()
        logger.error("hundreds of lines")
    logger.error("after")
    assert [record.message for record in caplog.records] == ["before", "after"]


class Finalized:
    def __init__(self, error):
        self.error = error

    def __del__(self):
        if self.error is not None:
            raise self.error
        send()


def test_what_a_finalizer_drops_is_not_printed(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: told.append(one.exc_type))
    with raised_on_signals() as signals:
        Finalized(OSError("of the user's own object"))
        Finalized(None)
        with pytest.raises(Interrupt):
            interrupts.check()
    assert signals.number == signal.SIGTERM
    assert told == [OSError]
