"""The conversation of endtask with a receiver, by the pipe of Windows: both halves, in real processes."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import contextlib
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from endtask._backends.windows import channel, handles, stop_event
from endtask._backends.windows.waiter import WindowsWaiter
from endtask.model import Request
from endtask_receiver import Stop
from endtask_receiver._win_pipe import Pipe
from tests.windows.lab import NO_WINDOW, PATIENCE_S, STOPPED_BY_ITSELF, SUSPENDED
from tests.windows.lab_pipe import BUSY, INSTANCES, Caller, call_and_stay, pipe_of

if TYPE_CHECKING:
    from tests.windows.lab import Lab, Target
STOP_EVENT = Request("STOP_EVENT", "event")
TIMED_OUT = 124


def endtask(verb: str, target: Target, *options: str, code: int = 0) -> dict[str, Any]:
    """Run the command and return its JSON."""
    command = [sys.executable, "-m", "endtask", verb, str(target.pid), "--json", *options]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=60)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)  # type: ignore[no-any-return]  # JSON


def stop(target: Target, *options: str, code: int = 0) -> dict[str, Any]:
    """Stop a target, with what it did and said."""
    (found,) = endtask("stop", target, "--watch=0s", *options, code=code)["targets"]
    return found  # type: ignore[no-any-return]  # JSON


def said(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the application said, kind and text."""
    return [(each["kind"], each["text"]) for each in found["members"][0]["said"]]


def left_when_asked(target: Target, how: str) -> float:
    """Return the seconds that it had when it was asked in this way."""
    (line,) = [text for text in target.texts if text.startswith(f"asked {how} ")]
    return float(line.split()[-1])


def asked_by(found: dict[str, Any]) -> list[str]:
    """Return how it was asked."""
    return [each["request"] for each in found["members"][0]["receipts"]]


# --------------------------------------------------------------------------- the commands


def test_look_shows_the_receiver(lab: Lab) -> None:
    """What it calls itself, and the time that it takes; it hears nothing of it."""
    target = lab.start("receiver", "loop", text="name='ingest', grace_s=8", flags=NO_WINDOW)
    receiver = endtask("look", target)["seen"][0]["facts"]["receiver"]
    assert (receiver["state"], receiver["name"], receiver["grace_s"]) == ("running", "ingest", 8)
    command = [sys.executable, "-m", "endtask", "look", str(target.pid)]
    assert 'yes, deadline known: "ingest", takes up to 8 s' in subprocess.check_output(
        command, encoding="utf-8", timeout=60
    )
    assert target.heard("asked") == 0


@pytest.mark.parametrize("mode", ["tells", "aiotells"])
def test_stop_gives_the_reason_and_shows_what_it_says(lab: Lab, mode: str) -> None:
    """The stop event asks, the pipe says why and until when; a coroutine hears the same."""
    target = lab.start("receiver", mode, 100, flags=NO_WINDOW)
    found = stop(target, "-t", "50s", "--reason", "deploy 12")
    assert found["outcome"] == "stopped"
    assert asked_by(found) == ["STOP_EVENT"]
    assert 10.5 < left_when_asked(target, "event STOP_EVENT") <= 50  # its own grace is 10 s
    assert target.texts[2].endswith(" deploy 12"), target.texts
    assert said(found)[:2] == [("heard", "STOP_EVENT"), ("tell", "draining")]
    heard, *more = found["members"][0]["said"]
    assert 0 <= heard["seconds"] < 50
    told = [(each["done"], each["total"]) for each in more if each["kind"] == "tell"]
    assert told[-1] == (3, 3)  # some of it newer progress has overtaken
    assert [each["text"][:7] for each in more if each["kind"] == "cleanup"] == ["the log"] * (mode == "tells")
    assert target.exit_code == STOPPED_BY_ITSELF


def test_request_can_come_by_the_pipe_alone(lab: Lab) -> None:
    """CHANNEL, with the pid of who asks."""
    target = lab.start("receiver", "tells", flags=NO_WINDOW)
    found = stop(target, "--plan", "channel 5s", "--reason", "deploy 12")
    assert found["outcome"] == "stopped"
    assert asked_by(found) == ["CHANNEL"]
    assert 0 < left_when_asked(target, "channel CHANNEL") <= 5
    assert target.texts[2].split()[1].isdigit(), target.texts
    assert said(found)[0] == ("heard", "CHANNEL")


def test_who_has_no_receiver_cannot_be_asked_by_it(lab: Lab) -> None:
    """The next step comes at once."""
    target = lab.start("etconsole", "event", flags=NO_WINDOW)
    found = stop(target, "--plan", "channel 20s stop-event 10s")
    assert found["outcome"] == "stopped"
    assert [(r["request"], r["status"]) for r in found["members"][0]["receipts"]] == [
        ("CHANNEL", "impossible"),
        ("STOP_EVENT", "delivered"),
    ]


def test_more_time_is_granted_within_what_was_allowed(lab: Lab) -> None:
    """The application learns its new deadline."""
    target = lab.start("receiver", "needs", 8000, flags=NO_WINDOW)
    found = stop(target, "-t", "4s", "--extend", "30s")
    assert found["outcome"] == "stopped"
    (need,) = [each for each in found["members"][0]["said"] if each["kind"] == "need"]
    assert (need["seconds"], need["text"]) == (8, "flushing")
    assert 3.9 < need["granted_s"] < 8
    assert 4.5 < float(target.wait_for("left").text.split()[1]) <= 8


def test_more_time_is_not_granted_by_itself(lab: Lab) -> None:
    """A budget is a promise; the report says what was missing."""
    target = lab.start("receiver", "needs", 8000, flags=NO_WINDOW)
    found = stop(target, "-t", "3s", code=TIMED_OUT)
    assert found["outcome"] == "running"
    (need,) = [each for each in found["members"][0]["said"] if each["kind"] == "need"]
    assert need["granted_s"] == 0
    assert 4.9 < need["missing_s"] < 8
    assert target.wait_for("left").text.split()[1] == "0.0"


def test_refusal_ends_the_polite_requests(lab: Lab) -> None:
    """It says why, and runs on."""
    target = lab.start("receiver", "veto", flags=NO_WINDOW)
    found = stop(target, "--plan", "stop-event 20s wm-close 20s ctrl-c 20s", code=TIMED_OUT)
    assert found["outcome"] == "vetoed"
    assert asked_by(found) == ["STOP_EVENT"]
    assert said(found) == [("heard", "STOP_EVENT"), ("veto", "not yet")]
    assert target.running


def test_refusal_does_not_keep_force_away(lab: Lab) -> None:
    """If the plan has it."""
    target = lab.start("receiver", "veto", flags=NO_WINDOW)
    found = stop(target, "--plan", "stop-event 1s kill", "--force-ok")
    assert found["outcome"] == "forced"
    assert asked_by(found) == ["STOP_EVENT", "TERMINATE"]


# --------------------------------------------------------------------------- bad callers


BAD = {
    "one line of a megabyte": b"x" * (1 << 20),
    "a megabyte of lines": b"xxxxxxx\n" * (1 << 17),
    "no object": b"[1, 2, 3]\n",
    "no version": b'{"request": {"left_s": 5}}\n',
    "wrong types": b'{"endtask": 1, "request": {"left_s": "soon"}}\n',
    "not finite": b'{"endtask": 1, "request": {"left_s": NaN}}\n',
    "zeros": bytes(5000),
    "a flood of good lines": b'{"endtask": 1}\n' * 1000,
}


@pytest.mark.parametrize("bad", list(BAD))
def test_what_is_no_message_ends_the_conversation_and_nothing_else(lab: Lab, bad: str) -> None:
    """The application is not asked, and hears the next one."""
    target = lab.start("receiver", "tells", flags=NO_WINDOW)
    with Caller(pipe_of(target)) as caller:
        assert caller.hear("hello")["pid"] == target.pid
        for at in range(0, len(BAD[bad]), 4096):
            if not caller.send(BAD[bad][at : at + 4096]):
                break
        assert caller.ended()
    assert target.heard("asked") == 0
    found = stop(target, "--reason", "deploy 12")
    assert (found["outcome"], said(found)[0]) == ("stopped", ("heard", "STOP_EVENT"))


def test_half_a_line_is_no_request(lab: Lab) -> None:
    """It is one when the other half comes."""
    target = lab.start("receiver", "tells", flags=NO_WINDOW)
    line = b'{"endtask":1,"request":{"left_s":5,"reason":"half"}}\n'
    with Caller(pipe_of(target)) as caller:
        caller.hear("hello")
        assert caller.send(line[:20])
        assert caller.send(line[20:40])
        with Caller(pipe_of(target)) as other:
            assert other.hear("hello")["state"] == "running"
        assert caller.send(line[40:])
        assert caller.hear("heard")["name"] == "CHANNEL"
    assert target.wait_exit() == STOPPED_BY_ITSELF


def test_caller_that_does_not_read_holds_nobody_up(lab: Lab) -> None:
    """Who tells, never waits; the others hear it."""
    target = lab.start("receiver", "floods", 120, flags=NO_WINDOW)
    with Caller(pipe_of(target)) as deaf, Caller(pipe_of(target)) as caller:
        assert caller.say(request={"left_s": 20})
        assert caller.hear("cleanup")["text"].startswith("last")
        assert target.wait_exit() == STOPPED_BY_ITSELF
        assert deaf.ended()
    assert target.heard("never waited") == 1, target.texts


def test_only_so_many_can_talk_at_the_same_time(lab: Lab) -> None:
    """The ninth is turned away; when one goes, the next one can come."""
    target = lab.start("receiver", "tells", flags=NO_WINDOW)
    callers = [Caller(pipe_of(target)) for _ in range(INSTANCES)]
    for caller in callers:
        caller.hear("hello")
    with pytest.raises(OSError, match="231") as error:
        Caller(pipe_of(target))
    assert error.value.winerror == BUSY
    with handles.open_pin(target.pid) as pin:
        waiter = WindowsWaiter()
        assert channel.connect(pin, waiter) == "it talks to as many as it can already (error 231)"
        waiter.close()
    found = stop(target)  # the stop event needs no pipe
    assert (found["outcome"], said(found)) == ("stopped", [])
    assert callers[0].hear("heard")["name"] == "STOP_EVENT"
    for caller in callers:
        caller.close()


def test_callers_come_and_go(lab: Lab) -> None:
    """A hundred, of which every other one says nothing."""
    target = lab.start("receiver", "tells", flags=NO_WINDOW)
    for number in range(100):
        with caller_in_time(target) as caller:
            if number % 2:
                caller.hear("hello")
                caller.say(notice={"left_s": 5, "reason": f"number {number}"})
    assert target.heard("asked") == 0
    assert stop(target)["outcome"] == "stopped"
    assert len(target.texts[2].split()) == 2, target.texts  # what they announced has gone with them


def test_flood_of_callers_is_let_in_at_a_pace(lab: Lab) -> None:
    """64 in a second, so that nobody keeps the application from its work; the stop event is heard at once. Counting in time is the point here."""
    target = lab.start("receiver", "tells", flags=NO_WINDOW)
    before, begin = handles.times(target.handle), time.perf_counter()
    for _ in range(160):
        caller_in_time(target).close()
    after, took_s = handles.times(target.handle), time.perf_counter() - begin
    assert 160 <= 64 * (took_s + 1)
    assert sum(after[2:]) - sum(before[2:]) < took_s * 5_000_000  # half of one processor, in units of 100 ns
    assert stop(target)["outcome"] == "stopped"


def caller_in_time(target: Target) -> Caller:
    """Connect as soon as somebody is free."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Caller(pipe_of(target))
        except OSError as error:
            if error.winerror != BUSY or time.monotonic() > deadline:
                raise
            with contextlib.suppress(OSError):  # ignored: it took longer, or somebody else was faster
                _winapi.WaitNamedPipe(pipe_of(target), 1000)


@pytest.mark.parametrize("word", ["request", "notice"])
def test_caller_that_is_killed_changes_nothing_that_was_asked(lab: Lab, word: str) -> None:
    """What was asked stays asked, and a notice without a request goes with it."""
    target = lab.start("receiver", "stubborn", flags=NO_WINDOW)
    with call_and_stay(target, json.dumps({"endtask": 1, word: {"left_s": 20, "reason": "it"}}).encode()) as caller:
        if word == "request":
            target.wait_for("asked channel CHANNEL")
        caller.kill()
    with Caller(pipe_of(target)) as other:
        assert other.hear("hello")["state"] == ("asked" if word == "request" else "running")
    assert target.running
    assert target.heard("asked") == (word == "request")


def test_caller_that_comes_before_anybody_waits_for_it_is_served() -> None:
    """The instances are there a moment before the thread is."""
    heard = Stop(name="early")
    pipe = Pipe(heard, lambda: None)
    try:
        with Caller(pipe.name) as caller, Caller(pipe.name) as other:
            assert caller.say(request={"left_s": 5, "reason": "at once"})
            for _ in range(3):
                pipe.turn()
            assert caller.hear("heard")["name"] == other.hear("heard")["name"] == "CHANNEL"
    finally:
        pipe.close()
    assert heard.request is not None
    assert (heard.request.reason, heard.request.pid) == ("at once", os.getpid())


def test_idle_conversation_costs_nothing(lab: Lab) -> None:
    """The thread waits, whatever the caller has done before. Waiting for time is the point here."""
    target = lab.start("receiver", "loop", flags=NO_WINDOW)
    with Caller(pipe_of(target)) as caller, Caller(pipe_of(target)) as other:
        caller.hear("hello")
        assert caller.say(notice={"left_s": 20, "request": "STOP_EVENT"})
        assert other.send(b"half a li")
        caller.hear("noted")
        before = handles.times(target.handle)
        _winapi.WaitForSingleObject(target.handle, 1000)
        after = handles.times(target.handle)
    assert sum(after[2:]) - sum(before[2:]) < 2_500_000  # a quarter of a second, in units of 100 ns


@pytest.mark.parametrize("mode", ["finish", "asyncio"])
def test_talk_to_its_last_moment_changes_nothing(lab: Lab, mode: str) -> None:
    """In the cleanup, after it, while the interpreter ends: no hang, no crash."""
    for _ in range(5):
        target = lab.start("receiver", mode, 20, flags=NO_WINDOW)
        with handles.open_pin(target.pid) as pin:
            assert stop_event.send_event(pin, STOP_EVENT, 0.0).status == "delivered"
        while target.running:
            try:
                with Caller(pipe_of(target)) as caller:
                    caller.say(notice={"left_s": 5})
            except OSError:
                continue  # there is none any more, or all are taken
        assert target.exit_code == (STOPPED_BY_ITSELF if mode == "asyncio" else 0)
        assert (target.heard("cleaned up"), target.heard("atexit")) == (1, 1)


# --------------------------------------------------------------------------- whose pipe it is


def test_pipe_that_another_process_has_made_is_not_used(lab: Lab) -> None:
    """The application does not listen to it, and says so; endtask does not talk to it."""
    target = lab.start("receiver", "ears", 50, flags=NO_WINDOW | SUSPENDED)
    planted = _winapi.CreateNamedPipe(pipe_of(target), 0x40000003, 0, 8, 4096, 4096, 0, 0)
    try:
        target.resume()
        target.wait_for("ready")
        (ear,) = [t for t in target.texts if "channel" in t]
        assert ear.startswith(f"ear channel: {pipe_of(target)} is not used: somebody else has that name (error ")
        receiver = endtask("look", target)["seen"][0]["facts"]["receiver"]
        assert receiver["state"] == "unusable"
        assert "not its own" in receiver["detail"]
        found = stop(target)
        assert (found["outcome"], asked_by(found), said(found)) == ("stopped", ["STOP_EVENT"], [])
    finally:
        _winapi.CloseHandle(planted)


def test_nobody_can_add_an_instance_of_his_own(lab: Lab) -> None:
    """They are all there from the beginning."""
    target = lab.start("receiver", "loop", flags=NO_WINDOW)
    with pytest.raises(OSError, match="231"):
        _winapi.CreateNamedPipe(pipe_of(target), 0x40000003, 0, INSTANCES, 4096, 4096, 0, 0)


def test_only_owner_and_administrators_may_talk(lab: Lab) -> None:
    """By its access control list, which inherits nothing."""
    target = lab.start("receiver", "loop", flags=NO_WINDOW)
    with Caller(pipe_of(target)) as caller:
        security = caller.security()
    assert security.startswith("D:P(")
    aces = [ace.split(";") for ace in security.partition("(")[2].rstrip(")").split(")(")]
    assert {(a[0], a[5]) for a in aces} == {("A", "BA"), ("A", "OW"), ("A", "SY")}
    (owner,) = [a[2] for a in aces if a[5] == "OW"]
    assert owner in {"0x12019f", "FRFW"}


def test_name_is_free_again_when_nobody_listens(lab: Lab) -> None:
    """It goes with `close`, not only with the process."""
    target = lab.start("receiver", "twice", text="name='second'", flags=NO_WINDOW)
    with Caller(pipe_of(target)) as caller:
        assert caller.hear("hello")["name"] == "second"


def test_listen_within_listen_can_be_asked_by_the_pipe(lab: Lab) -> None:
    """Both hear it, as they do all other requests; and the inner one is heard, too."""
    target = lab.start("receiver", "nested", flags=NO_WINDOW)
    found = stop(target, "--plan", "channel 10s")
    assert asked_by(found) == ["CHANNEL"]
    assert ("tell", "inner") in said(found)
    assert (target.heard("inner CHANNEL"), target.heard("outer CHANNEL")) == (1, 1)


def test_there_is_none_if_it_is_not_wanted(lab: Lab) -> None:
    """The stop event is heard all the same."""
    target = lab.start("receiver", "loop", 50, "channel=False", flags=NO_WINDOW)
    with pytest.raises(FileNotFoundError):
        Caller(pipe_of(target))
    assert asked_by(stop(target)) == ["STOP_EVENT"]
