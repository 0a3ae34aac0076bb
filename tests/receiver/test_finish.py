"""The exit status tells the truth: seen from a parent, a shell, and a namespace of which we are the first process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from .lab import LIMIT_S, MINORS, Program, folder_of_the_receiver, interpreter

pytestmark = [pytest.mark.real, pytest.mark.slow]

CODE = """
    import atexit, sys, threading
    from endtask_receiver import listen
    atexit.register(print, "atexit before")
    with listen() as stop:
        atexit.register(print, "atexit after")
        stop.cleanup(print, "cleanup")
        thread = threading.Thread(target=stop.wait)
        thread.start()
        print("ready")
        try:
            stop.wait()
            stop.finish({how})
        finally:
            print("finally")
"""
WORDS = ("cleanup", "finally", "atexit after", "atexit before")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_who_was_asked_by_a_signal_dies_by_it_after_all_else(name: str) -> None:
    """The cleanup, `finally`, threads and `atexit` had their turn, in the usual order."""
    with Program(CODE.format(how="")) as program:
        program.expect("ready")
        program.send(getattr(signal, name))
        program.ends(-getattr(signal, name), *WORDS)


@pytest.mark.parametrize("minor", MINORS)
def test_every_python_dies_as_the_last_thing_it_does(minor: int) -> None:
    """The order in which an interpreter ends is its own business; that it dies at the end is ours."""
    code = f"import sys; sys.path.append({folder_of_the_receiver()!r})\n" + textwrap.dedent(CODE.format(how=""))
    with Program(code, python=interpreter(minor)) as program:
        program.expect("ready")
        program.send()
        program.ends(-signal.SIGTERM, *WORDS)


def test_a_status_of_143_by_choice() -> None:
    """For those who read numbers only."""
    with Program(CODE.format(how="'status'")) as program:
        program.expect("ready")
        program.send()
        program.ends(143, *WORDS)


def test_a_status_of_ones_own() -> None:
    """75: try again later."""
    with Program(CODE.format(how="75")) as program:
        program.expect("ready")
        program.send()
        program.ends(75, *WORDS)


def test_who_was_asked_by_other_means_ends_with_0() -> None:
    """No signal ended it."""
    with Program("from endtask_receiver import listen\nwith listen() as stop:\n    stop.ask()\n    stop.finish()") as p:
        p.ends(0)


def test_who_was_asked_to_dump_core_says_so_by_status() -> None:
    """QUIT's default action leaves a file that nobody wants."""
    with Program(
        """
        from endtask_receiver import listen
        with listen(signals=["QUIT"]) as stop:
            print("ready")
            stop.wait()
            stop.finish()
        """
    ) as program:
        program.expect("ready")
        program.send(signal.SIGQUIT)
        program.ends(128 + signal.SIGQUIT)


def test_the_output_is_there_when_it_dies() -> None:
    """A pipe is buffered, and the buffer is written before the end."""
    code = """
        import sys
        from endtask_receiver import listen
        sys.stdout.reconfigure(write_through=False, line_buffering=False)
        with listen() as stop:
            print("ready", flush=True)
            stop.wait()
            sys.stdout.write("x" * 3000 + "\\n")
            stop.finish()
    """
    with Program(code) as program:
        program.expect("ready")
        program.send()
        program.ends(-signal.SIGTERM, "x" * 3000)


def test_a_forked_child_of_one_that_finishes_does_not_die_by_it() -> None:
    """The end is the parent's."""
    with Program(
        """
        import os, signal, sys
        from endtask_receiver import listen
        with listen() as stop:
            print("ready")
            stop.wait()
            try:
                stop.finish()
            except SystemExit:
                pid = os.fork()
                if not pid:
                    sys.exit(5)
                print(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
                raise
        """
    ) as program:
        program.expect("ready")
        program.send()
        program.ends(-signal.SIGTERM, "5")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(("how", "turns"), [("", 1), ("130", 3)])
def test_a_shells_loop_stops_after_ctrl_c_only_if_the_child_died_by_it(how: str, turns: int) -> None:
    """That is why it dies by the signal; with a status of 130 the loop goes on."""
    code = f"""if True:
        import os, signal
        from endtask_receiver import listen
        with listen() as stop:
            os.write(1, b"turn\\n")
            os.killpg(0, signal.SIGINT)
            stop.wait()
            stop.finish({how})
    """
    shell = f'for turn in 1 2 3; do {sys.executable} -c "$CODE"; done; echo done'
    done = subprocess.run(
        ["bash", "-c", shell],
        env={**os.environ, "CODE": code},
        stdout=subprocess.PIPE,
        timeout=LIMIT_S,
        check=False,
        start_new_session=True,
    )
    assert done.stdout.count(b"turn") == turns
    assert (done.returncode == -signal.SIGINT) is (turns == 1)


def test_a_shell_shows_the_death_as_143() -> None:
    """What scripts look for."""
    code = """if True:
        import os, signal
        from endtask_receiver import listen
        with listen() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            stop.wait()
            stop.finish()
    """
    done = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "$CODE"; echo $?'],
        env={**os.environ, "CODE": code},
        stdout=subprocess.PIPE,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stdout.split() == [b"143"]


def _namespaces() -> bool:
    return subprocess.run(["unshare", "-pf", "--kill-child", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(
    shutil.which("unshare") is None or not _namespaces(), reason="this user cannot make a process namespace"
)
def test_the_first_process_of_a_container_says_143() -> None:
    """The kernel discards a signal with its default action there, so it cannot die by it, and says it by number."""
    code = """
        import os, signal
        from endtask_receiver import listen
        with listen() as stop:
            print(os.getpid())
            os.kill(os.getpid(), signal.SIGTERM)
            stop.wait()
            stop.finish()
    """
    with Program(code, prefix=["unshare", "-pf", "--kill-child"]) as program:
        program.ends(143, "1")


@pytest.mark.skipif(
    shutil.which("unshare") is None or not _namespaces(), reason="this user cannot make a process namespace"
)
def test_the_first_process_of_a_container_can_be_ended_at_once() -> None:
    """Also there the third request is the last."""
    code = """
        import os, signal
        from endtask_receiver import listen, Policy
        with listen(policy=Policy(steps=["exit"])) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            stop.wait()
    """
    with Program(code, prefix=["unshare", "-pf", "--kill-child"]) as program:
        program.ends(143)


def test_a_third_request_by_other_means_ends_with_143() -> None:
    """It was not by a signal, so there is none to die by."""
    with Program(
        """
        from endtask_receiver import listen, Policy
        with listen(policy=Policy(steps=["exit"])) as stop:
            stop.cleanup(print, "never")
            stop.ask()
        """
    ) as program:
        program.ends(143)


def test_requests_during_the_end_of_the_interpreter_change_nothing_until_the_third() -> None:
    """Ctrl+C in an `atexit` function is no traceback; three of them end it."""
    code = """
        import atexit, signal, sys
        from endtask_receiver import listen, Policy
        def slow():
            print("atexit")
            for _ in range(int(sys.argv[1])):
                signal.raise_signal(signal.SIGINT)
            print("atexit done")
        atexit.register(slow)
        with listen(policy=Policy(window_s=0.0)) as stop:
            print("ready")
            stop.wait()
            stop.finish()
    """
    for times, rest in (("0", ["atexit done"]), ("1", ["atexit done"]), ("2", [])):
        with Program(code, times) as program:
            program.expect("ready")
            program.send(signal.SIGINT)
            program.ends(-signal.SIGINT, "atexit", *rest)
