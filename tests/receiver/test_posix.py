"""Signals, the end of standard input and the end of the parent, in real processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import listen
from endtask_receiver._posix import _Line

from .lab import LIMIT_S, Program, proc_status

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

LOOP = """
    import sys
    from endtask_receiver import listen
    with listen({args}) as stop:
        print("ready")
        stop.wait()
        print(stop.request)
"""


def loop(args: str = "") -> str:
    """Return a program that waits for one request."""
    return LOOP.format(args=args)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_the_usual_signals_ask(name: str) -> None:
    """And nothing else happens."""
    with Program(loop()) as program:
        program.expect("ready")
        program.send(getattr(signal, name))
        program.ends(0, name)


def test_other_signals_ask_by_choice() -> None:
    """By name or number; TERM keeps its meaning then."""
    code = loop("signals=('usr1', 'SIGUSR2', 34)")
    for number, text in ((signal.SIGUSR1, "SIGUSR1"), (signal.SIGUSR2, "SIGUSR2"), (34, "SIGRTMIN")):
        with Program(code) as program:
            program.expect("ready")
            program.send(number)
            program.ends(0, text)
    with Program(code) as program:
        program.expect("ready")
        program.send(signal.SIGTERM)
        program.ends(-signal.SIGTERM)


def test_a_real_time_signal_has_a_name_and_a_number() -> None:
    """And dies by it truthfully."""
    with Program(
        """
        from endtask_receiver import listen
        with listen(signals=[35]) as stop:
            print("ready")
            stop.wait()
            print(stop.request)
            stop.finish("status")
        """
    ) as program:
        program.expect("ready")
        program.send(35)
        program.ends(128 + 35, "signal 35")


@pytest.mark.parametrize("word", ["NOSUCH", "KILL", "STOP", "signal", 9])
def test_what_nobody_can_hear_is_an_error(word: str | int) -> None:
    """At once, not when it is too late."""
    with pytest.raises(ValueError, match=r"there is no signal|nobody can hear"):
        listen(signals=[word])


def test_an_unknown_word_for_forks_is_an_error() -> None:
    """The two words are said."""
    with pytest.raises(ValueError, match="inert or forward"):
        listen(fork="maybe")


def test_everything_is_as_it_was_after_the_block() -> None:
    """Handlers, wake-up descriptor and mask."""

    def mine(_number: int, _frame: object) -> None:
        pass

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    kept = {n: signal.getsignal(n) for n in numbers}
    fds = len(os.listdir("/proc/self/fd"))
    try:
        signal.signal(signal.SIGTERM, mine)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        with listen() as stop:
            assert signal.getsignal(signal.SIGTERM) is not mine
            assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert "SIGHUP: it was blocked, and is not any more" in stop.ears
            assert "SIGTERM: a handler hears it, and so does what was installed before" in stop.ears
            assert "wake-up descriptor: a thread watches it" in stop.ears
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) == kept[signal.SIGINT]
        assert signal.getsignal(signal.SIGHUP) == kept[signal.SIGHUP]
        assert signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        for number, before in kept.items():
            signal.signal(number, before)
    assert len(os.listdir("/proc/self/fd")) == fds


def test_what_was_installed_before_is_called_too() -> None:
    """Even if it raises: then the request counts, and the exception goes no further."""
    with Program(
        """
        import signal, sys
        from endtask_receiver import listen
        def first(number, frame):
            print("first", number, frame is not None)
            sys.exit(3)
        signal.signal(signal.SIGTERM, first)
        with listen() as stop:
            print("ready")
            stop.wait()
            while not stop.faults:
                stop._clock()
            print(stop.request, stop.faults)
        signal.raise_signal(signal.SIGTERM)
        """
    ) as program:
        program.expect("ready")
        program.send()
        program.expect("first 15 True", "SIGTERM 1")
        program.ends(3, "first 15 True")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As nohup and shells want it."""
    with Program(
        """
        import signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        from endtask_receiver import listen
        with listen() as stop:
            print("ready")
            print("SIGHUP: ignored since before us, left alone" in stop.ears)
            stop.wait()
            print(stop.request)
        """
    ) as program:
        program.expect("ready", "True")
        program.send(signal.SIGHUP)
        program.send(signal.SIGTERM)
        program.ends(0, "SIGTERM")


def test_a_handler_that_is_not_pythons_is_left_alone() -> None:
    """Python cannot put it back, so it does not take it away: `faulthandler` installs such a one."""
    with Program(
        """
        import ctypes, signal
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal.restype = ctypes.c_void_p
        import _ctypes
        import faulthandler
        @ctypes.CFUNCTYPE(None, ctypes.c_int)
        def foreign(number):
            pass
        # Python looks at handlers once, when it starts, so one that comes later is invisible to it; embedding programs have theirs before.
        from endtask_receiver import _posix
        real = signal.getsignal
        _posix.signal.getsignal = lambda n: None if n == signal.SIGTERM else real(n)
        from endtask_receiver import listen
        with listen() as stop:
            _posix.signal.getsignal = real
            print("SIGTERM: handled by something that is not Python, left alone" in stop.ears)
            print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        """
    ) as program:
        program.ends(0, "True", "True")


def test_a_handler_that_somebody_installs_later_stays_when_we_leave() -> None:
    """It is theirs."""
    kept = signal.getsignal(signal.SIGTERM)

    def later(_number: int, _frame: object) -> None:
        pass

    try:
        with listen() as stop:
            signal.signal(signal.SIGTERM, later)
            assert not stop
        assert signal.getsignal(signal.SIGTERM) is later
    finally:
        signal.signal(signal.SIGTERM, kept)


def test_our_handler_passes_on_when_somebody_restores_it_after_our_end() -> None:
    """A library that saved ours and puts it back later must not make the process deaf."""
    for before, status in (("signal.SIG_DFL", -signal.SIGTERM), ("lambda n, f: sys.exit(7)", 7)):
        with Program(
            f"""
            import signal, sys, time
            signal.signal(signal.SIGTERM, {before})
            from endtask_receiver import listen
            with listen() as stop:
                ours = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, ours)
            print("ready")
            while True:
                time.sleep(0.1)  # not `signal.pause`: nothing would end it if the signal came just before
            """
        ) as program:
            program.expect("ready")
            program.send()
            program.ends(status)


def test_a_listen_within_a_listen_hears_and_so_does_the_outer_one() -> None:
    """A library may listen for itself; also while the main thread is in a long call."""
    with Program(
        """
        import sqlite3
        from endtask_receiver import listen
        with listen() as outer:
            with listen(signals=["TERM"]) as inner:
                print("the thread of the `listen` around this one watches it" in " ".join(inner.ears))
                heard = []
                inner.add_waker(lambda: heard.append(outer.asked))
                print("ready")
                inner.wait()
                print(inner.request, outer.wait(10), outer.request)
            print(outer.repeats, inner.repeats)
        """
    ) as program:
        program.expect("True", "ready")
        program.send()
        program.ends(0, "SIGTERM True SIGTERM", "0 0")


def test_three_listens_within_each_other_hear_all() -> None:
    """The innermost follows the middle one, which follows the outer one."""
    with Program(
        """
        from endtask_receiver import listen
        with listen() as a, listen() as b, listen() as c:
            print("ready")
            c.wait(), b.wait(), a.wait()
            print(a.request, b.request, c.request)
        """
    ) as program:
        program.expect("ready")
        program.send()
        program.ends(0, "SIGTERM SIGTERM SIGTERM")


def test_in_another_thread_it_says_that_it_hears_no_signals() -> None:
    """Only the main thread can install handlers; asking it from the program works."""
    said: list[object] = []

    def other() -> None:
        with listen(channel=False) as stop:
            said.append(stop.ears)
            stop.ask()
            said.append(stop.wait())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert said == [("signals: not heard, this is not the main thread of the main interpreter",), True]


def test_closed_in_another_thread_it_passes_signals_on() -> None:
    """Handlers can only be removed by the main thread, so they stay and do what was done before."""
    with Program(
        """
        import threading, time
        from endtask_receiver import listen
        stop = listen()
        thread = threading.Thread(target=stop.close)
        thread.start()
        thread.join()
        print("ready")
        while True:
            time.sleep(0.1)  # not `signal.pause`: nothing would end it if the signal came just before
        """
    ) as program:
        program.expect("ready")
        program.send()
        program.ends(-signal.SIGTERM)


def test_it_can_be_closed_by_its_own_waker() -> None:
    """In the watching thread, which then ends by itself."""
    with Program(
        """
        import os, signal
        from endtask_receiver import listen
        stop = listen()
        def close():
            stop.close()
        stop.add_waker(close)
        print("ready")
        stop.wait()
        while not stop._closed:
            os.stat(".")
        print("closed")
        """
    ) as program:
        program.expect("ready")
        program.send()
        program.ends(0, "closed")


def test_without_watching_the_descriptor_stays_free() -> None:
    """For those who want it themselves."""
    with listen(watch=False) as stop:
        assert signal.set_wakeup_fd(-1) == -1
        assert not any("wake-up" in line for line in stop.ears)


@pytest.mark.parametrize("how", ["stop.wait()", "stop.nap(1000)"])
def test_without_watching_a_wait_hears_what_has_come_just_before_it(how: str) -> None:
    """Nothing interrupts the call then, as when another thread is the one that gets the signal; it must not last for ever."""
    with Program(
        f"""
        import signal, threading
        from endtask_receiver import listen
        with listen(watch=False, channel=False) as stop:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # so that it is the other one
            print("ready")
            {how}
            print(stop.request)
        """
    ) as program:
        program.expect("ready")
        program.settle()
        program.send()
        program.ends(0, "SIGTERM")


def test_a_descriptor_that_somebody_has_stays_theirs() -> None:
    """Handlers still hear."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        with listen() as stop:
            assert "wake-up descriptor: somebody else has it, so signals wait for the main thread" in stop.ears
            signal.raise_signal(signal.SIGHUP)
            assert stop.wait(LIMIT_S)
        assert signal.set_wakeup_fd(writer) == writer
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def test_a_descriptor_that_somebody_takes_from_us_stays_theirs() -> None:
    """Asyncio does that when a program calls `add_signal_handler`."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        with listen():
            assert signal.set_wakeup_fd(writer) != -1
        assert signal.set_wakeup_fd(-1) == writer
    finally:
        os.close(reader)
        os.close(writer)


def test_what_was_blocked_before_exec_is_let_in_when_it_listens() -> None:
    """A launcher that blocks TERM holds it back until we can hear it: nothing is lost in the start."""
    code = """
        import os, signal
        print(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []))
        input()
        from endtask_receiver import listen
        with listen() as stop:
            stop.wait()
            print(stop.request)
    """
    with Program(code, prefix=["env", "--block-signal=TERM"], stdin=subprocess.PIPE) as program:
        program.expect("True")
        program.send()
        assert program.process.stdin is not None
        program.process.stdin.write(b"\n")
        program.process.stdin.flush()
        program.ends(0, "SIGTERM")


def test_the_second_signal_hurries_and_the_third_dies_by_it() -> None:
    """The process is in its cleanup and cannot be kept there."""
    with Program(
        """
        from endtask_receiver import listen, Policy
        with listen(policy=Policy(window_s=0.0)) as stop:
            print("ready")
            stop.wait()
            print("asked")
            while not stop.hurry:
                pass
            print("hurry")
            while True:
                pass
        """
    ) as program:
        program.expect("ready")
        program.send()
        program.expect("asked")
        program.send()
        program.expect("hurry")
        program.send()
        program.ends(-signal.SIGTERM)


@pytest.mark.parametrize("watch", [True, False])
def test_the_window_is_between_requests_and_not_between_ears(watch: bool) -> None:
    """One signal is heard twice, the second time when the long call ends; it stays one request."""
    with Program(
        f"""
        import sqlite3, sys
        from endtask_receiver import listen, Policy
        with listen(watch={watch}, policy=Policy(window_s=0.0)) as stop:
            print("ready")
            stop.wait()
            for turn in range(1000):
                sum(range(1000))
            print(len(stop.requests), stop.hurry)
        """
    ) as program:
        program.expect("ready")
        program.send()
        program.ends(0, "1 False")


def test_exit_at_once_while_the_main_thread_is_in_a_long_call(tmp_path: Path) -> None:
    """It cannot die by the signal, since only the main thread may ask for that; it ends as a shell would tell it."""
    with Program(
        f"""
        import os, sqlite3
        from endtask_receiver import listen, Policy
        with listen(policy=Policy(window_s=0.0)) as stop:
            stop.add_waker(lambda: os.write(1, b"heard\\n"))
            first, second = (sqlite3.connect({str(tmp_path / "data")!r}, timeout=1000) for _ in range(2))
            first.execute("begin exclusive")
            print("ready")
            second.execute("begin exclusive")
        """
    ) as program:
        program.expect("ready")
        program.settle()
        program.send()
        program.expect("heard")
        program.send()
        program.expect("heard")
        program.send()
        assert program.end()[0] == 143, program.errors()


def test_the_end_of_standard_input_asks() -> None:
    """Nothing is read: the application's input stays the application's."""
    code = """
        import sys
        from endtask_receiver import listen
        with listen(stdin=True) as stop:
            print(*[line for line in stop.ears if "input" in line])
            stop.wait()
            print(stop.request, sys.stdin.readline().strip())
    """
    with Program(code, stdin=subprocess.PIPE) as program:
        program.expect("standard input: its end is a request")
        assert program.process.stdin is not None
        program.process.stdin.write(b"a line that nobody has read\n")
        program.process.stdin.close()
        program.ends(0, "stdin: standard input has ended a line that nobody has read")


def test_an_input_without_an_end_is_said() -> None:
    """A file, a device, or nothing at all."""
    code = """
        import os, sys
        if "closed" in sys.argv:
            os.close(0)
        from endtask_receiver import listen
        with listen(stdin=True) as stop:
            print(*[line for line in stop.ears if "input" in line])
    """
    with Program(code, stdin=subprocess.DEVNULL) as program:
        program.ends(0, "standard input: a file or a device, so it has no end to wait for")
    with Program(code, "closed") as program:
        program.ends(0, "standard input: closed, so it has no end to wait for")


def test_a_daemon_without_standard_streams_gets_no_descriptor_of_ours_there() -> None:
    """What it prints would ask it to stop."""
    with Program(
        """
        import os
        pipe = os.dup(1)
        for fd in (0, 1, 2):
            os.close(fd)
        from endtask_receiver import listen
        with listen() as stop:
            free = [fd for fd in (0, 1, 2) if not os.path.exists(f"/proc/self/fd/{fd}")]
            os.write(pipe, repr(free).encode() + b"\\n")
        """
    ) as program:
        program.ends(0, "[0, 1, 2]")


def test_an_input_that_the_application_closes_itself_asks_nothing() -> None:
    """It knows what it did."""
    code = """
        import os
        from endtask_receiver import listen
        with listen(stdin=True) as stop:
            os.close(0)
            stop.add_waker(lambda: None)
            stop._ears[1].watcher.poke()
            print(stop.wait(0.2))
    """
    with Program(code, stdin=subprocess.PIPE) as program:
        program.ends(0, "False")


def test_the_end_of_the_parent_asks() -> None:
    """The middle process starts a listener and is killed."""
    code = f"""
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", {CHILD_OF_PARENT!r}])
        child.wait()
    """
    with Program(code) as program:
        said = program.line()
        assert said == f"parent: the end of process {program.pid} is a request"
        program.process.kill()
        assert program.line() == "parent: the parent has ended"


CHILD_OF_PARENT = """
from endtask_receiver import listen
with listen(parent=True) as stop:
    print(*[line for line in stop.ears if "parent" in line], flush=True)
    stop.wait()
    print(stop.request, flush=True)
"""


def test_a_parent_that_is_gone_already_asks_at_once() -> None:
    """Between its start and our look."""
    with Program(
        """
        import os, sys
        if os.fork():
            os._exit(0)
        print("child")
        import endtask_receiver._ends as ends
        real = ends._parent
        gone = os.fork() or os._exit(0)
        os.waitpid(gone, 0)
        ends._parent = lambda: (gone, None)
        from endtask_receiver import listen
        with listen(parent=True) as stop:
            print(stop.wait(20), *[line for line in stop.ears if "parent" in line])
        ends._parent = lambda: (1, None)
        with listen(parent=True) as stop:
            print(stop.wait(0), *[line for line in stop.ears if "parent" in line])
        # A number that is somebody else's by now: it can be opened, and is not our parent.
        ends._parent = lambda: (os.getpid(), None)
        with listen(parent=True) as stop:
            print(stop.wait(20), stop.request)
        """
    ) as program:
        program.ends(
            0,
            "child",
            "True parent: it had ended before we began to listen",
            "False parent: process 1 does not end before us",
            "True parent: the parent had ended before we began to listen",
        )


def test_without_pidfds_a_worker_uses_what_multiprocessing_gives_it() -> None:
    """And who has neither is told so."""
    with Program(
        """
        import multiprocessing, os, sys
        from endtask_receiver import _ends, listen
        del os.pidfd_open
        def work(pipe):
            with listen(parent=True) as stop:
                pipe.send([line for line in stop.ears if "parent" in line])
                stop.wait()
                print(stop.request, flush=True)
        with listen(parent=True) as stop:
            print(*[line for line in stop.ears if "parent" in line])
        here, there = multiprocessing.Pipe()
        worker = multiprocessing.get_context("fork").Process(target=work, args=(there,))
        worker.start()
        print(here.recv())
        os.kill(os.getpid(), 9)
        """
    ) as program:
        program.expect("parent: this system has no way to wait for the end of a parent")
        program.expect(f"['parent: the end of process {program.pid} is a request']")
        assert program.line() == "parent: the parent has ended"


def test_the_thread_leaves_signals_to_the_main_thread() -> None:
    """It blocks them, and nobody else inherits that."""
    bit, end = 1 << (signal.SIGTERM - 1), time.monotonic() + LIMIT_S
    with listen():
        others = [int(t) for t in os.listdir("/proc/self/task") if int(t) != os.getpid()]
        while not any(proc_status(t, "SigBlk") & bit for t in others):  # it does so when it begins to run
            assert time.monotonic() < end
        assert not proc_status(os.getpid(), "SigBlk") & bit


def test_children_that_are_executed_hear_as_if_we_did_not_listen() -> None:
    """No mask, no handler, no descriptor of ours."""
    with listen(), Program("import time; print('ready'); time.sleep(1000)") as program:
        program.expect("ready")
        program.send()
        program.ends(-signal.SIGTERM)


def test_a_request_in_the_deepest_recursion_is_heard() -> None:
    """There is no stack left for the handler, and the flag is set nevertheless."""
    with Program(
        """
        import signal, sys
        from endtask_receiver import listen
        with listen() as stop:
            def deep(n):
                try:
                    return deep(n + 1)
                except RecursionError:
                    signal.raise_signal(signal.SIGTERM)
                    return n
            for _ in range(20):
                try:
                    deep(0)
                except RecursionError:
                    pass
            print(stop.asked)
        """
    ) as program:
        status, lines = program.end()
        assert (status, lines) == (0, ["True"])


def test_without_a_free_descriptor_everything_is_as_it_was() -> None:
    """The error is the caller's, and no handler is left behind."""
    with Program(
        """
        import os, resource, signal, sys
        import endtask_receiver._ends, endtask_receiver._posix
        from endtask_receiver import listen
        before = [signal.getsignal(n) for n in (1, 2, 15)]
        def try_with(free, **options):
            resource.setrlimit(resource.RLIMIT_NOFILE, (3 + free, 100))
            try:
                with listen(**options):
                    return "listens"
            except OSError as error:
                return error.errno
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
                assert before == [signal.getsignal(n) for n in (1, 2, 15)]
                assert signal.set_wakeup_fd(-1) == -1
        print(try_with(1), try_with(2), try_with(3, parent=True), try_with(9, parent=True))
        """
    ) as program:
        program.ends(0, "24 listens 24 listens")


def test_garbage_on_the_descriptor_changes_nothing() -> None:
    """Other signals of the application come there too."""
    with Program(
        """
        import signal
        from endtask_receiver import listen
        got = []
        signal.signal(signal.SIGUSR1, lambda n, f: got.append(n))
        with listen() as stop:
            for _ in range(1000):
                signal.raise_signal(signal.SIGUSR1)
            print(stop.asked, len(got))
            print("ready")
            stop.wait()
        """
    ) as program:
        program.expect("False 1000", "ready")
        program.send()
        program.ends(0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sub-interpreters cannot be made here")
def test_a_sub_interpreter_hears_no_signals() -> None:
    """And says so."""
    code = "from endtask_receiver import listen\nwith listen() as stop:\n    print(*stop.ears)\n"
    with Program(
        f"""
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        each = interpreters.create()
        interpreters.run_string(each, {code!r})
        """
    ) as program:
        program.ends(0, "signals: not heard, this is not the main thread of the main interpreter")


# ---------------------------------------------------------------- twice heard


def test_a_call_that_began_before_the_latest_byte_covers_it_only_perhaps() -> None:
    """The handler of the first signal was still being called when the thread read the byte of the second one, whose call is yet to come."""
    line = _Line(signal.SIGTERM)
    assert [line.by_thread(1.0), line.by_thread(2.0)] == [False, False]
    assert [line.by_handler(1.5), line.by_handler(2.5)] == [True, True]
    assert [line.by_handler(3.0), line.by_thread(3.1)] == [False, True]


def test_a_call_that_a_later_one_has_interrupted_is_its_echo() -> None:
    """It reports after that one, with the earlier time."""
    line = _Line(signal.SIGTERM)
    assert [line.by_thread(1.1), line.by_thread(1.2)] == [False, False]
    assert [line.by_handler(1.3), line.by_handler(1.0)] == [True, True]
    assert [line.by_handler(2.1), line.by_handler(2.0)] == [False, True]
    assert [line.by_thread(2.2), line.by_thread(2.3)] == [True, False], "two signals, each with a byte"


def test_a_call_that_covered_two_leaves_the_next_one_to_the_thread() -> None:
    """No signal is lost by it: each has a byte of its own."""
    line = _Line(signal.SIGTERM)
    assert [line.by_thread(1.0), line.by_thread(2.0), line.by_handler(1.5)] == [False, False, True]
    assert [line.by_handler(3.0), line.by_thread(3.1), line.by_handler(4.0), line.by_thread(4.1)] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("part", range(4))
def test_every_delivery_counts_once_in_whatever_order_it_is_told(part: int) -> None:
    """Never sooner than it came, and never twice: deliveries, calls of the handler that interrupt each other, and reads of the thread in random orders."""
    for seed in range(part * 5000, part * 5000 + 5000):
        orders = random.Random(seed)
        line, now, coming, delivered, counted = _Line(signal.SIGTERM), 0, orders.randint(1, 5), 0, 0
        tripped, unread = False, 0
        calls: list[int] = []
        reading: int | None = None
        while coming or tripped or unread or calls or reading is not None:
            now += 1
            may = {"deliver": coming, "call": tripped, "report": calls, "read": unread and reading is None}
            may["tell"] = reading is not None
            does = orders.choice([each for each, possible in may.items() if possible])
            if does == "deliver":
                coming, delivered, tripped, unread = coming - 1, delivered + 1, True, unread + 1
            elif does == "call":
                tripped = False
                calls.append(now)
            elif does == "report":
                counted += not line.by_handler(calls.pop())
            elif does == "read":
                reading, unread = now, unread - 1
            elif reading is not None:
                counted, reading = counted + (not line.by_thread(reading)), None
            assert counted <= delivered, f"seed {seed}"
        assert counted == delivered, f"seed {seed}"
