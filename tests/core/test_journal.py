"""What earlier stops asked in vain: written, found again, and never in the way."""

from __future__ import annotations

import os

import pytest

from endtask import _journal
from endtask.model import MemberReport, PidRef, Receipt, Report, TargetReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

REF = PidRef(12, "34")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of our own; returns the journal's path."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "endtask" / "asked"


def asked(*requests: str, name: str = "app", exited: bool = False, ref: PidRef = REF) -> Report:
    """Return the report of a stop that sent these requests."""
    receipts = tuple(Receipt(r, "delivered") for r in requests)
    member = MemberReport(ref, name, "target", exited, receipts=receipts)
    return Report((TargetReport("app", ref, name, "running", members=(member,)),))


def test_what_was_asked_in_vain_is_recalled(home: Path) -> None:
    """The requests and the outcome of then, oldest first."""
    _journal.remember(asked("TERM"))
    _journal.remember(asked("TERM", "INT"))
    first, second = _journal.recall(REF)
    assert first.startswith("TERM was sent")
    assert first.endswith("outcome then: running")
    assert second.startswith("TERM and INT were sent ")
    _journal.remember(asked("WM_CLOSE", "CTRL_C", "CTRL_C", "CTRL_BREAK", "cmd:ask a,b"))
    assert r"WM_CLOSE, CTRL_C, CTRL_BREAK and cmd:ask a\x2cb were sent" in _journal.recall(REF)[-1]


@pytest.mark.parametrize(("seconds", "words"), [(59, "59 s"), (61, "1 min"), (7300, "2 h"), (200000, "2 d")])
def test_how_long_ago_is_said_for_people(home: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, words: str) -> None:
    """Nobody counts 7,300 seconds."""
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    _journal.remember(asked("TERM"))
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0 + seconds)
    assert _journal.recall(REF) == (f"TERM was sent {words} ago, delivered; outcome then: running",)


def test_other_process_with_the_same_pid_is_not_recalled(home: Path) -> None:
    """The token decides, not the pid (demand 3.8)."""
    _journal.remember(asked("TERM"))
    assert _journal.recall(PidRef(12, "35")) == ()
    assert _journal.recall(PidRef(12)) == ()


def test_line_of_an_earlier_boot_is_not_recalled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are unique within one boot only."""
    monkeypatch.setattr(_journal, "_boot", lambda: "before")
    _journal.remember(asked("TERM"))
    monkeypatch.setattr(_journal, "_boot", lambda: "now")
    assert _journal.recall(REF) == ()


def test_what_ended_or_was_not_asked_is_not_written(home: Path) -> None:
    """The common case writes nothing."""
    _journal.remember(asked("TERM", exited=True))
    _journal.remember(asked())
    _journal.remember(Report(()))
    assert not home.exists()


def test_refused_request_is_not_told_as_sent(home: Path) -> None:
    """Only what was delivered counts."""
    member = MemberReport(REF, "app", "target", exited=False, receipts=(Receipt("TERM", "denied"),))
    _journal.remember(Report((TargetReport("app", REF, "app", "not-permitted", members=(member,)),)))
    assert _journal.recall(REF) == ()


def test_refusal_of_the_program_itself_is_recalled(home: Path) -> None:
    """It was asked whether the session may end, and nothing more was sent."""
    assert not _journal.said_no(())
    member = MemberReport(REF, "app", "target", exited=False, receipts=(Receipt("WM_ENDSESSION", "vetoed"),))
    _journal.remember(Report((TargetReport("app", REF, "app", "vetoed", members=(member,)),)))
    told = _journal.recall(REF)
    assert told[0].startswith("WM_QUERYENDSESSION was sent ")
    assert _journal.said_no(told)
    _journal.remember(asked("WM_CLOSE"))
    assert not _journal.said_no(_journal.recall(REF))


def test_journal_is_private(home: Path) -> None:
    """Names of processes are nobody else's business."""
    _journal.remember(asked("TERM"))
    assert home.stat().st_mode & 0o777 == 0o600
    assert home.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\\n", "\udcff", "", "日本", "\x1b[2J", "x" * 5000])
def test_name_of_any_kind_breaks_no_line(home: Path, name: str) -> None:
    """Tabs, newlines and bytes that are no UTF-8 in a name leave the line readable."""
    _journal.remember(asked("TERM", name=name))
    _journal.remember(asked("INT"))
    assert len(_journal.recall(REF)) == 2
    assert len(home.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize("request_name", ["stdin:'a\tb'", "stdin:'a\nb'", "cmd:'x\udcff'"])
def test_request_of_any_kind_breaks_no_line(home: Path, request_name: str) -> None:
    """A plan's own text may hold tabs and newlines too."""
    _journal.remember(asked(request_name))
    _journal.remember(asked("INT"))
    assert len(_journal.recall(REF)) == 2


def test_journal_that_has_grown_is_begun_anew(home: Path) -> None:
    """It never grows without bound."""
    home.parent.mkdir()
    home.write_text("x\n" * _journal._LIMIT, encoding="utf-8")
    _journal.remember(asked("TERM"))
    assert len(_journal.recall(REF)) == 1
    assert home.stat().st_size < 1000


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe\x00",
        b"\t\t\t\t\t",
        b"x\t\t12:34\tTERM\trunning\t'a'",
        "²\t\t12:34\tTERM\trunning\t'a'".encode(),
        b"9" * 6000 + b"\t\t12:34\tTERM\trunning\t'a'",
        b"1\t2\t3",
    ],
)
def test_broken_line_is_passed_over(home: Path, line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the file, nothing fails and the good lines are found."""
    monkeypatch.setattr(_journal, "_boot", lambda: "")
    home.parent.mkdir()
    home.write_bytes(line + b"\n")
    _journal.remember(asked("TERM"))
    assert len(_journal.recall(REF)) == 1


def test_journal_that_cannot_be_written_or_read_fails_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory in its place, a file in its directory's place, no directory at all."""
    home.mkdir(parents=True)
    _journal.remember(asked("TERM"))
    assert _journal.recall(REF) == ()
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    _journal.remember(asked("TERM"))
    assert _journal.recall(REF) == ()


def test_journal_follows_no_link_when_it_writes(home: Path, tmp_path: Path) -> None:
    """A planted link must not lead our writing elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    home.parent.mkdir()
    home.symlink_to(victim)
    _journal.remember(asked("TERM"))
    assert victim.read_text(encoding="utf-8") == "precious"


def test_journal_lives_in_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~/.local/state` where nothing else is said, and a relative or empty XDG_STATE_HOME is ignored (XDG base directory specification)."""
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = os.path.join(tmp_path, ".local", "state", "endtask", "asked")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert expected == _journal._path()
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert expected == _journal._path()
