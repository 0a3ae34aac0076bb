"""Forked children and workers: inert, or told what their parent is asked; of every start method."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .lab import Program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]
METHODS = ("fork", "spawn", "forkserver")


def test_a_forked_child_dies_by_its_signal_and_its_parent_hears_nothing() -> None:
    """Twenty children, each ended the moment it exists."""
    with Program(
        """
        import os, signal
        from endtask_receiver import listen
        with listen() as stop:
            for turn in range(20):
                pid = os.fork()
                if not pid:
                    while True:
                        signal.pause()
                os.kill(pid, signal.SIGTERM)
                _, status = os.waitpid(pid, 0)
                assert os.WTERMSIG(status) == signal.SIGTERM, status
            print(stop.wait(0.2), stop.requests)
        """
    ) as program:
        program.ends(0, "False ()")


@pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="3.13 counts threads after a fork, when ours runs again")
def test_no_thread_of_ours_runs_beside_a_fork() -> None:
    """A child inherits what other threads hold; Python would warn of it. Afterwards the thread watches again."""
    with Program(
        """
        import os, signal, sqlite3, sys, threading, warnings
        warnings.simplefilter("error")
        from endtask_receiver import listen
        def fork():
            pid = os.fork()
            if not pid:
                os._exit(len(os.listdir("/proc/self/task")))
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with listen(parent=True, fork="forward") as stop:
            print([fork() for _ in range(5)])
            stop.add_waker(lambda: os.write(1, b"noticed\\n"))
            print("ready")
            os.system("sleep 1000 & echo $!; wait")
        """
    ) as program:
        # The child of `forward` has two threads of its own.
        program.expect("[3, 3, 3, 3, 3]", "ready")
        sleeper = int(program.line())
        program.send(signal.SIGTERM)
        program.expect("noticed")
        os.kill(sleeper, signal.SIGKILL)
        program.ends(0)


def test_a_fork_in_a_waker_of_the_watching_thread_is_possible() -> None:
    """It cannot wait for itself."""
    with Program(
        """
        import os, threading
        from endtask_receiver import listen
        done = threading.Event()
        def fork():
            pid = os.fork()
            if not pid:
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            done.set()
        with listen(signals=["TERM"]) as stop:
            def late():
                if threading.current_thread() is not threading.main_thread() and not done.is_set():
                    fork()
            stop.add_waker(late)
            print("ready")
            os.system("sleep 1000 & echo $!; wait")
            done.wait()
        """
    ) as program:
        program.expect("ready")
        sleeper = int(program.line())
        program.send(signal.SIGTERM)
        program.expect("7")
        os.kill(sleeper, signal.SIGKILL)
        assert program.end()[0] == 0


@pytest.mark.parametrize("method", METHODS)
def test_terminate_ends_a_worker_of_any_start_method(method: str, tmp_path: Path) -> None:
    """`Process.terminate()` does what it says, and the parent is not asked."""
    program_text = f"""
import multiprocessing, signal, time
from endtask_receiver import listen

def work(pipe):
    pipe.send(1)
    time.sleep(1000)

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with listen() as stop:
        for turn in range(4):
            here, there = context.Pipe()
            worker = context.Process(target=work, args=(there,))
            worker.start()
            here.recv()
            worker.terminate()
            worker.join()
            assert worker.exitcode == -signal.SIGTERM, worker.exitcode
        print(stop.wait(0.2), stop.requests)
"""
    with run_file(program_text, tmp_path) as program:
        program.ends(0, "False ()")


def run_file(text: str, folder: Path, stdin: int = subprocess.DEVNULL) -> Program:
    """Start a program that its workers can import: from a file."""
    path = folder / "program.py"
    path.write_text(text)
    return Program(
        f"""
        import __main__
        __main__.__file__ = {str(path)!r}
        __main__.__spec__ = None
        exec(compile(open({str(path)!r}).read(), {str(path)!r}, 'exec'), __main__.__dict__)
        """,
        stdin=stdin,
    )


def test_a_child_of_one_that_was_asked_has_not_been_asked() -> None:
    """Its state is its own, and so are its descriptor, its cleanup and its deadline."""
    with Program(
        """
        import os, select
        from endtask_receiver import listen
        with listen() as stop:
            stop.cleanup(print, "cleanup of", os.getpid())
            stop.fileno()
            stop.ask()
            pid = os.fork()
            if not pid:
                print(stop.asked, stop.requests, stop.ears, len(select.select([stop.fileno()], [], [], 0)[0]))
            else:
                os.waitpid(pid, 0)
        print("end")
        """
    ) as program:
        status, lines = program.end()
        assert program.errors() == ""
    assert status == 0
    assert lines == ["False () () 0", "end", f"cleanup of {program.pid}", "end"]


def test_the_handlers_of_the_application_come_back_in_the_child() -> None:
    """What was installed before `listen` is what the child has."""
    with Program(
        """
        import os, signal
        from endtask_receiver import listen
        def mine(number, frame):
            print("mine")
        signal.signal(signal.SIGTERM, mine)
        with listen() as outer, listen() as inner:
            pid = os.fork()
            if not pid:
                print(signal.getsignal(signal.SIGTERM) is mine, signal.set_wakeup_fd(-1))
                signal.raise_signal(signal.SIGTERM)
                print(outer.asked, inner.asked)
                os._exit(0)
            os.waitpid(pid, 0)
            print(outer.asked, inner.asked)
        """
    ) as program:
        program.ends(0, "True -1", "mine", "False False", "False False")


def test_a_child_can_listen_for_itself() -> None:
    """Also while its parent listens."""
    with Program(
        """
        import os, signal
        from endtask_receiver import listen
        with listen() as stop:
            pid = os.fork()
            if not pid:
                with listen(parent=True) as own:
                    print("ready")
                    own.wait()
                    print("child", own.request)
                    os._exit(0)
            stop.wait()
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            print("parent", stop.request)
        """
    ) as program:
        program.expect("ready")
        program.send(signal.SIGHUP)
        program.ends(0, "child SIGTERM", "parent SIGHUP")


def test_forwarded_a_child_hears_what_its_parent_is_asked() -> None:
    """Any number of children, and theirs; with the deadline; Ctrl+C in the child alone does nothing."""
    with Program(
        """
        import os, signal
        from endtask_receiver import listen
        def say(*words):  # in one write: others print too
            os.write(1, (" ".join(map(str, words)) + "\\n").encode())
        with listen(grace_s=50, fork="forward") as stop:
            print("forked children: hear what is asked of us" in stop.ears)
            children = []
            for name in ("a", "b", "c"):
                pid = os.fork()
                if not pid:
                    if name == "c" and not os.fork():
                        name = "d"
                    signal.raise_signal(signal.SIGINT)
                    say(name, "waits", signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
                    stop.wait()
                    say(name, stop.request, 40 < stop.left() <= 50)
                    if name == "c":
                        os.wait()
                    os._exit(0)
                children.append(pid)
            stop.wait()
            for pid in children:
                os.waitpid(pid, 0)
            say("parent", stop.request)
        """
    ) as program:
        program.expect("True")
        assert sorted(program.line() for _ in "abcd") == [f"{n} waits True" for n in "abcd"]
        program.send()
        status, lines = program.end()
        assert program.errors() == ""
    assert status == 0
    heard = "parent: the parent was asked True"
    assert sorted(lines) == [f"a {heard}", f"b {heard}", f"c {heard}", f"d {heard}", "parent SIGTERM"]


def test_forwarded_a_child_hears_term_itself_and_the_end_of_its_parent() -> None:
    """It does not outlive it by mistake. The end of the parent's block is no request."""
    with Program(
        """
        import os, signal
        from endtask_receiver import listen
        with listen(fork="forward") as stop:
            first = os.fork()
            if not first:
                print("ready")
                stop.wait()
                print(stop.request)
                os._exit(0)
            os.kill(first, signal.SIGTERM)
            os.waitpid(first, 0)
            reader, writer = os.pipe()
            if not os.fork():
                os.close(writer)
                print(*stop.ears, sep=", ")
                os.read(reader, 1)
                print(stop.wait(0.2))
                os._exit(0)
        os.close(writer)
        os.wait()
        with listen(fork="forward") as stop:
            if not os.fork():
                os.write(1, b"last\\n")
                stop.wait()
                print(stop.request)
                os._exit(0)
            os.write(1, f"{stop.asked}\\n".encode())
            while True:
                signal.pause()
        """
    ) as program:
        program.expect("ready", "SIGTERM")
        assert "parent: what it is asked, and its end, is a request" in program.line()
        program.expect("False")
        assert {program.line(), program.line()} == {"last", "False"}
        program.process.kill()
        assert program.line() == "parent: the parent has ended"


@pytest.mark.parametrize("method", METHODS)
def test_a_link_tells_workers_of_any_start_method(method: str, tmp_path: Path) -> None:
    """One release of one semaphore reaches them all, with the deadline."""
    program_text = f"""
import multiprocessing, os
from endtask_receiver import listen, workers

def say(*words):  # in one write: others print too
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def work(link, number):
    with workers.listen(link) as stop:
        say(number, "ready")
        stop.wait()
        say(number, stop.request, 40 < stop.left() <= 50, "parent: what it is asked is a request" in stop.ears)

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with listen(grace_s=50) as stop:
        link = workers.Link(stop, context)
        crew = [context.Process(target=work, args=(link, n)) for n in range(3)]
        for worker in crew:
            worker.start()
        stop.wait()
        for worker in crew:
            worker.join()
        print([w.exitcode for w in crew], stop.request)
"""
    with run_file(program_text, tmp_path) as program:
        assert sorted(program.line() for _ in range(3)) == ["0 ready", "1 ready", "2 ready"]
        program.send()
        heard = sorted(program.line() for _ in range(3))
        assert heard == [f"{n} parent: the parent was asked True True" for n in range(3)]
        program.ends(0, "[0, 0, 0] SIGTERM")


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_starts_leaves_ctrl_c_to_its_parent_too(method: str, tmp_path: Path) -> None:
    """A terminal sends it to everybody, at any moment; here it comes before the worker listens."""
    program_text = f"""
import multiprocessing, os, signal
from endtask_receiver import listen, workers

def work(link):
    os.kill(os.getpid(), signal.SIGINT)
    with workers.listen(link) as stop:
        print("ready", flush=True)
        stop.wait()
        print(stop.request, signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with listen(grace_s=30) as stop:
        worker = context.Process(target=work, args=(workers.Link(stop, context),))
        with workers.starting():
            worker.start()
        stop.wait()
        worker.join()
        print(worker.exitcode, signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    with run_file(program_text, tmp_path) as program:
        program.expect("ready")
        program.send(signal.SIGINT)
        program.ends(0, "parent: the parent was asked False", "0 False")


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_ends_as_it_hears_does_not_make_the_others_deaf(method: str, tmp_path: Path) -> None:
    """It has taken what the others wait for, and passes nothing on."""
    program_text = f"""
import multiprocessing, os
from endtask_receiver import listen, workers

def end(link):
    print("waits", flush=True)
    link._asked.acquire()
    os._exit(0)

def work(link):
    with workers.listen(link) as stop:
        print("ready", flush=True)
        stop.wait()
        print(stop.request, flush=True)

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with listen(grace_s=30) as stop:
        link = workers.Link(stop, context)
        first = context.Process(target=end, args=(link,))
        first.start()
        stop.wait()
        first.join()
        second = context.Process(target=work, args=(link,))
        second.start()
        second.join()
"""
    with run_file(program_text, tmp_path) as program:
        program.expect("waits")
        program.send()
        program.expect("ready", "parent: the parent was asked")
        program.ends(0)


@pytest.mark.parametrize("method", METHODS)
def test_a_pools_worker_ends_with_its_parent(method: str, tmp_path: Path) -> None:
    """Without it they live on as orphans; `terminate` and a normal end still work."""
    program_text = f"""
import concurrent.futures, multiprocessing, os, signal, sys
from endtask_receiver import workers

def pid():
    return os.getpid()

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with context.Pool(2, initializer=workers.initialize) as pool:
        assert pool.apply(pid) != os.getpid()
    pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=workers.initialize)
    for future in [pool.submit(pid) for _ in range(8)]:
        future.result()
    print(*pool._processes, flush=True)
    if sys.stdin.readline() == "kill\\n":
        os.kill(os.getpid(), signal.SIGKILL)
    pool.shutdown()
    print("end")
"""
    with run_file(program_text, tmp_path) as program:
        program.line()
        program.ends(0, "end")
    with run_file(program_text, tmp_path, subprocess.PIPE) as program:
        pids = [int(p) for p in program.line().split()]
        assert program.process.stdin is not None
        program.process.stdin.write(b"kill\n")
        program.process.stdin.flush()
        program.process.wait()
        # The output is a pipe that all of them have open: its end is the end of the last of them.
        assert program.end() == (-signal.SIGKILL, [])
        assert pids


def test_without_the_main_thread_a_worker_listens_to_its_parent_only() -> None:
    """Nothing raises."""
    with Program(
        """
        import threading
        from endtask_receiver import workers
        def work():
            with workers.listen() as stop:
                print(*stop.ears[:1])
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """
    ) as program:
        program.ends(0, "signals: not heard, this is not the main thread of the main interpreter")
