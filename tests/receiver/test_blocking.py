"""Every blocking call that can be made here: a request is noticed while the program is in it.

"Noticed" is what a waker says: the flag is set, the latch is open, and a descriptor is readable, while the main thread is still in the call.
That it *ends* early is another matter: Python goes on with nearly every call, and only what waits on the receiver ends (see the documentation).
"""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from .lab import Program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

# In all: `release()` lets the call end, from the watching thread, when the request has been noticed.
BEGIN = """
import os, signal, sys, threading, time
from endtask_receiver import listen

def release():
    pass

def noticed():
    os.write(1, b"noticed\\n")
    release()

with listen() as stop:
    stop.add_waker(noticed)
"""

# name -> (what prepares it, the call)
CALLS = {
    "time.sleep": ("", "time.sleep(1000)"),
    "lock.acquire": ("lock = threading.Lock(); lock.acquire(); release = lock.release", "lock.acquire()"),
    "lock with a limit": ("lock = threading.Lock(); lock.acquire()", "lock.acquire(timeout=1000)"),
    "with lock": ("lock = threading.Lock(); lock.acquire(); release = lock.release", "lock.__enter__()"),
    "RLock in use elsewhere": (
        (
            "lock = threading.RLock(); t = threading.Thread(target=lambda: (lock.acquire(), time.sleep(1000)), daemon=True); t.start()\n"
            "while lock.acquire(False): lock.release()"
        ),
        "lock.acquire()",
    ),
    "Event": ("event = threading.Event()", "event.wait(1000)"),
    "Condition": ("condition = threading.Condition(); condition.acquire()", "condition.wait(1000)"),
    "Barrier": ("barrier = threading.Barrier(2)", "barrier.wait(1000)"),
    "Semaphore": ("semaphore = threading.Semaphore(0)", "semaphore.acquire(timeout=1000)"),
    "join": ("t = threading.Thread(target=time.sleep, args=(1000,), daemon=True); t.start()", "t.join()"),
    "queue.get": ("import queue; q = queue.Queue()", "q.get()"),
    "queue.put": ("import queue; q = queue.Queue(1); q.put(1)", "q.put(2)"),
    "queue.join": ("import queue; q = queue.Queue(); q.put(1)", "q.join()"),
    "SimpleQueue": ("import queue; q = queue.SimpleQueue()", "q.get()"),
    "future.result": (
        "import concurrent.futures; f = concurrent.futures.Future()",
        "f.result(1000)",
    ),
    "multiprocessing.Lock": ("import multiprocessing; m = multiprocessing.Lock(); m.acquire()", "m.acquire()"),
    "multiprocessing.Queue": ("import multiprocessing; m = multiprocessing.Queue()", "m.get()"),
    "multiprocessing.Pipe": ("import multiprocessing; a, b = multiprocessing.Pipe()", "a.recv()"),
    "sched": ("import sched; s = sched.scheduler(); s.enter(1000, 1, print)", "s.run()"),
    "recv": ("import socket; a, b = socket.socketpair()", "a.recv(1)"),
    "recv with a limit": ("import socket; a, b = socket.socketpair(); a.settimeout(1000)", "a.recv(1)"),
    "sendall": ("import socket; a, b = socket.socketpair()", "a.sendall(b'x' * 10_000_000)"),
    "readline of a socket": ("import socket; a, b = socket.socketpair(); f = a.makefile()", "f.readline()"),
    "accept": ("import socket; s = socket.create_server(('127.0.0.1', 0))", "s.accept()"),
    "select": ("import select, socket; a, b = socket.socketpair()", "select.select([a], [], [])"),
    "poll": (
        "import select, socket; a, b = socket.socketpair(); p = select.poll(); p.register(a, select.POLLIN)",
        "p.poll()",
    ),
    "epoll": (
        "import select, socket; a, b = socket.socketpair(); p = select.epoll(); p.register(a, select.EPOLLIN)",
        "p.poll()",
    ),
    "selectors": (
        "import selectors, socket; a, b = socket.socketpair(); s = selectors.DefaultSelector(); s.register(a, 1)",
        "s.select()",
    ),
    "os.read": ("a, b = os.pipe()", "os.read(a, 1)"),
    "os.write": ("a, b = os.pipe()", "os.write(b, b'x' * 10_000_000)"),
    "buffered read": ("a, b = os.pipe(); f = open(a, 'rb')", "f.read()"),
    "sys.stdin": ("", "sys.stdin.readline()"),
    "input": ("", "input()"),
    "open a fifo": ("import tempfile; d = tempfile.mkdtemp(); p = d + '/fifo'; os.mkfifo(p)", "open(p)"),
    "flock": (
        "import fcntl, tempfile; f = tempfile.NamedTemporaryFile(); g = open(f.name); fcntl.flock(f, fcntl.LOCK_EX)",
        "fcntl.flock(g, fcntl.LOCK_EX)",
    ),
    "lockf": (
        (
            "import fcntl, subprocess, tempfile; f = tempfile.NamedTemporaryFile()\n"
            "c = subprocess.Popen([sys.executable, '-c', 'import fcntl, sys\\n"
            'f = open(sys.argv[1], "r+"); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); sys.stdin.read()\', f.name], '
            "stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
            "c.stdout.readline()"
        ),
        "fcntl.lockf(f, fcntl.LOCK_EX)",
    ),
    "serve_forever": ("import socketserver; s = socketserver.TCPServer(('127.0.0.1', 0), None)", "s.serve_forever()"),
    "Popen.wait": ("import subprocess; c = subprocess.Popen(CHILD, stdin=subprocess.PIPE)", "c.wait()"),
    "Popen.wait with a limit": (
        "import subprocess; c = subprocess.Popen(CHILD, stdin=subprocess.PIPE)",
        "c.wait(1000)",
    ),
    "communicate": (
        "import subprocess; c = subprocess.Popen(CHILD, stdout=subprocess.PIPE, stdin=subprocess.PIPE); k = os.dup(c.stdin.fileno())",
        "c.communicate()",
    ),
    "subprocess.run": ("import subprocess; a, b = os.pipe()", "subprocess.run(CHILD, stdin=a)"),
    "waitpid": ("import subprocess; c = subprocess.Popen(CHILD, stdin=subprocess.PIPE)", "os.waitpid(c.pid, 0)"),
    "os.system": ("", "os.system('cat')"),
    "sqlite's busy wait": (
        (
            "import sqlite3, tempfile; d = tempfile.mkdtemp(); p = d + '/db'; a = sqlite3.connect(p)\n"
            "b = sqlite3.connect(p, timeout=1000); a.execute('begin exclusive')"
        ),
        "b.execute('begin exclusive')",
    ),
    "a query of sqlite": (
        "import sqlite3; a = sqlite3.connect(':memory:')",
        "a.execute('with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n')",
    ),
    "hashlib": ("import hashlib; data = bytes(300_000_000)", "[hashlib.sha512(data) for _ in range(1000)]"),
    "zlib": (
        "import random, zlib; data = random.randbytes(10_000_000)",
        "[zlib.compress(data, 9) for _ in range(1000)]",
    ),
    "signal.pause": ("", "signal.pause(); time.sleep(1000)"),
    "a C call through ctypes": ("import ctypes; c = ctypes.CDLL(None)", "c.sleep(1000); c.sleep(1000)"),
    "a regular expression": ("import re", "re.match('(a+)+b', 'a' * 60)"),
    "a big power": ("", "pow(3, 300_000_000)"),
    "a generator in all()": ("", "all(True for _ in iter(int, 1))"),
    "asyncio.sleep": ("import asyncio", "asyncio.run(asyncio.sleep(1000))"),
    "asyncio.to_thread": ("import asyncio", "asyncio.run(asyncio.to_thread(time.sleep, 1000))"),
    "trio.sleep": ("import trio", "trio.run(trio.sleep, 1000)"),
    "stop.wait": ("", "stop.wait()"),
}
CHILD = "['cat']"


@pytest.mark.parametrize("name", list(CALLS))
def test_a_request_is_noticed_in(name: str, tmp_path: Path) -> None:
    """While the call is going on: most of these never end."""
    prepare, call = CALLS[name]
    lines = [*prepare.splitlines(), "os.write(1, b'ready\\n')", call]
    code = BEGIN.replace("listen()", "listen(watch=False)" if "trio" in name else "listen()")
    code += "".join(f"    {line}\n" for line in lines).replace("CHILD", CHILD)
    with Program(code, stdin=subprocess.PIPE, env={"TMPDIR": str(tmp_path)}) as program:
        program.expect("ready")
        program.settle()
        program.send(signal.SIGTERM)
        program.expect("noticed")


GIL = {
    "sum": "sum(range(20_000_000))",
    "sort": "sorted(iter([i * 7919 % 1_000_003 for i in range(2_000_000)]))",
    "a long `in`": "-1 in range(0, 10**18, 2) or -1 in list(range(10_000_000))",
}


@pytest.mark.parametrize("name", list(GIL))
def test_a_request_is_noticed_after(name: str) -> None:
    """Nobody can hear anything while a C call holds the interpreter and never looks; it is noticed as soon as it ends."""
    code = BEGIN + f"    os.write(1, b'ready\\n')\n    {GIL[name]}\n    stop.wait()\n    print(len(stop.requests))\n"
    with Program(code) as program:
        program.expect("ready")
        program.send(signal.SIGTERM)
        program.expect("noticed")
        program.ends(0, "1")


def test_what_waits_on_the_receiver_ends_at_once() -> None:
    """The one wait that is made for it, in any number of threads."""
    with Program(
        """
        import threading
        from endtask_receiver import listen
        with listen() as stop:
            ended = []
            threads = [threading.Thread(target=lambda: ended.append(stop.wait())) for _ in range(50)]
            for thread in threads:
                thread.start()
            print("ready")
            for thread in threads:
                thread.join()
            print(len(ended), all(ended), stop.nap(1000))
        """
    ) as program:
        program.expect("ready")
        program.send()
        program.ends(0, "50 True True")
