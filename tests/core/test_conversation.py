"""Lines and messages: what an application may say, with every bound, and how it reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from endtask import _conversation, _said
from endtask._conversation import MOST_LINE, MOST_LINES, Message, Reader, clean
from endtask._plan import LONGEST_S
from endtask.model import Receiver, Said

HELLO = {"endtask": 1, "hello": {"pid": 7, "name": "ingest", "grace_s": 10.0, "state": "running", "left_s": None}}
GREETED = Message("hello", "ingest", 10.0, state="running")


def line(*messages: object) -> bytes:
    """Return messages as an application sends them."""
    return b"".join(json.dumps(m).encode() + b"\n" for m in messages)


def greeted() -> Reader:
    """Return a reader that has been greeted."""
    reader = Reader()
    assert reader.feed(line(HELLO), 0.0) == [GREETED]
    return reader


# --------------------------------------------------------------------------- what is understood


def test_every_word_is_understood() -> None:
    """The words of the protocol, as the receiver writes them."""
    words = (
        {"heard": {"name": "SIGTERM", "channel": "signal", "ago_s": 0.0002, "left_s": 9.98}},
        {"tell": {"text": "draining", "done": 3, "total": 15}},
        {"need": {"seconds": 8.0, "text": "flushing"}},
        {"shield": {"seconds": 2.0, "text": "commit"}},
        {"cleanup": {"text": "close db", "seconds": 0.2}},
        {"veto": {"text": "recording"}},
    )
    assert greeted().feed(line(*words), 0.0) == [
        Message("heard", "SIGTERM", 0.0002, left_s=9.98),
        Message("tell", "draining", None, 3, 15),
        Message("need", "flushing", 8.0),
        Message("shield", "commit", 2.0),
        Message("cleanup", "close db", 0.2),
        Message("veto", "recording"),
    ]


def test_a_refusal_needs_no_greeting() -> None:
    """Who does not speak with us says so in its first line."""
    said = Reader().feed(line({"endtask": 1, "refused": {"text": "only the same user and root may ask"}}), 0.0)
    assert said == [Message("refused", "only the same user and root may ask")]


@given(st.integers(1, 40))
def test_words_may_come_in_any_pieces(size: int) -> None:
    """A line may be cut anywhere."""
    data = line(HELLO, {"tell": {"text": "größer"}}, {"veto": {}})
    reader = Reader()
    found = [m for at in range(0, len(data), size) for m in reader.feed(data[at : at + size], 0.0)]
    assert found == [GREETED, Message("tell", "größer"), Message("veto")]


def test_what_is_not_known_is_ignored() -> None:
    """A later receiver may say more, in the same line or in others."""
    reader = greeted()
    more = {"tell": {"text": "a", "more": 1}, "mood": {"text": "well"}}
    assert reader.feed(line(more, {"weather": "fine"}), 0.0) == [Message("tell", "a")]
    assert not reader.broken


# --------------------------------------------------------------------------- what is not


BAD = (
    b"\n",
    b"hello\n",
    b"[]\n",
    b'"tell"\n',
    b"{\n",
    b"\xff\xfe\n",
    b"[" * 3000 + b"\n",
    b'{"tell":[]}\n',
    b'{"tell":{"text":1}}\n',
    b'{"need":{"text":"no number"}}\n',
    b'{"need":{"seconds":true}}\n',
    b'{"need":{"seconds":-1}}\n',
    b'{"need":{"seconds":1e8}}\n',
    b'{"need":{"seconds":NaN}}\n',
    b'{"need":{"seconds":Infinity}}\n',
    b'{"need":{"seconds":1' + b"0" * 400 + b"}}\n",
    b'{"need":{"seconds":"8"}}\n',
    b'{"hello":{"state":"bored"}}\n',
    b"x" * MOST_LINE + b"\n",
    b"x" * MOST_LINE,
)


@pytest.mark.parametrize("data", BAD)
def test_what_cannot_be_meant_ends_the_conversation(data: bytes) -> None:
    """Nothing more is listened to, also not in the same piece; what came before counts."""
    reader = greeted()
    before = line({"tell": {"text": "before"}})
    assert reader.feed(before + data + line({"veto": {}}), 0.0) == [Message("tell", "before")]
    assert reader.broken
    assert reader.feed(line({"veto": {}}), 5.0) == []


@pytest.mark.parametrize("version", [None, 0, -1, True, "1", 1.0, []])
def test_the_first_line_must_name_the_version(version: object) -> None:
    """Who does not greet us is no receiver."""
    first = {**HELLO, "endtask": version} if version is not None else {"hello": HELLO["hello"]}
    reader = Reader()
    assert reader.feed(line(first), 0.0) == []
    assert reader.broken


def test_a_later_version_is_understood_as_far_as_it_goes() -> None:
    """Version 2 keeps the words of version 1."""
    assert Reader().feed(line({**HELLO, "endtask": 2}), 0.0) == [GREETED]


def test_a_flood_ends_the_conversation() -> None:
    """So many lines a second are looked at, and no more; a second later it would be fine again."""
    tell = line({"tell": {"text": "busy"}})
    patient = greeted()
    assert len(patient.feed(tell * (MOST_LINES - 1), 0.5)) == MOST_LINES - 1
    assert len(patient.feed(tell * MOST_LINES, 2.0)) == MOST_LINES
    assert not patient.broken
    patient.feed(tell, 2.5)
    assert "lines in a second" in patient.broken


@given(st.lists(st.binary(max_size=200) | st.sampled_from(BAD), max_size=20))
@example([b'{"endtask":1,"tell":{"text":"\\ud800"}}\n'])
def test_nothing_that_comes_can_raise(pieces: list[bytes]) -> None:
    """Whatever an application sends, we go on."""
    reader = Reader()
    for piece in pieces:
        for message in reader.feed(piece, 0.0):
            assert message.text.isprintable()


@given(st.text())
def test_text_is_fit_to_be_shown(text: str) -> None:
    """No control character, no escape sequence, no turned line, and never long."""
    shown = clean(text)
    assert shown.isprintable()
    assert len(shown) <= 500
    assert shown == text[:500] or not text[:500].isprintable()


# --------------------------------------------------------------------------- what we say


@given(st.text(max_size=600), st.text(max_size=600), st.floats(allow_nan=False))
def test_what_we_say_keeps_the_bounds(request: str, reason: str, left_s: float) -> None:
    """One short line with the version, whatever the reason and the plan are."""
    for said in (_conversation.notice(request, left_s, reason), _conversation.request(left_s, reason)):
        assert len(said) <= MOST_LINE
        assert said.count(b"\n") == 1
        message = json.loads(said)
        assert message["endtask"] == 1
    for said, word in ((_conversation.granted(left_s), "granted"), (_conversation.not_granted(left_s), "not_granted")):
        assert 0 <= json.loads(said)[word]["left_s"] <= 1e7


# --------------------------------------------------------------------------- in the report


def test_progress_takes_the_place_of_older_progress() -> None:
    """The report keeps what happened, not every step of it."""
    entries: list[Said] = []
    for done in range(1000):
        _said.add(entries, Said("tell", float(done), "draining", done, 1000))
    _said.add(entries, Said("tell", 2000.0, "flushing"))
    assert [(e.text, e.done) for e in entries] == [("draining", 999), ("flushing", None)]


def test_the_report_is_bounded_and_keeps_what_matters() -> None:
    """Of too many words the oldest progress goes; a refusal and a wish stay."""
    entries: list[Said] = []
    _said.add(entries, Said("heard", 0.0, "SIGTERM"))
    _said.add(entries, Said("need", 0.5, "flushing", seconds=8.0))
    for number in range(500):
        _said.add(entries, Said("tell", 1.0 + number, f"part {number}"))
    _said.add(entries, Said("veto", 600.0, "no"))
    assert len(entries) == _said.MOST_SAID
    assert [e.kind for e in entries if e.kind != "tell"] == ["heard", "need", "veto"]
    assert entries[-2].text == "part 499"


WORDS = (
    (Said("heard", 0.0, "SIGTERM", seconds=0.0002), "heard SIGTERM after 0.2 ms"),
    (Said("heard", 0.0, "SIGTERM"), "heard SIGTERM"),
    (Said("heard", 0.0, seconds=2.0), "heard the request after 2 s"),
    (Said("tell", 0.0, "draining", 3, 15), "says: draining, 3 of 15"),
    (Said("tell", 0.0, "", 3), "says: 3"),
    (Said("tell", 0.0), "says: nothing in words"),
    (
        Said("need", 0.0, "flushing", seconds=8.0, granted_s=8.0, until_s=18.0),
        "needs 8 s more: flushing (granted: until 18 s)",
    ),
    (Said("need", 0.0, "", seconds=0.5, until_s=10.0), "needs 0.5 s more (it has that: until 10 s)"),
    (
        Said("need", 0.0, "flushing", seconds=8.0, missing_s=8.0, until_s=10.0),
        "needs 8 s more: flushing (not granted: --extend 8s would)",
    ),
    (
        Said("need", 0.0, "x", seconds=8.0, granted_s=3.0, missing_s=5.01, until_s=13.0),
        "needs 8 s more: x (granted: until 13 s, no more: --extend 8.1s would)",
    ),
    (
        Said("need", 0.0, "", seconds=0.2, missing_s=0.123, until_s=10.0),
        "needs 0.2 s more (not granted: --extend 0.13s would)",
    ),
    (Said("need", 0.0, "", seconds=1e7, missing_s=1e7), "needs 10000000 s more (not granted: nobody waits so long)"),
    (Said("veto", 0.0, "recording"), "refuses: recording"),
    (Said("shield", 0.0, "commit", seconds=2.0), "cannot be cut short for at most 2 s: commit"),
    (Said("cleanup", 0.0, "close db", seconds=0.2), "has cleaned up: close db (200.0 ms)"),
    (Said("refused", 0.0, "no"), "does not speak with us: no"),
    (Said("closed", 0.0, "it said too much"), "is not listened to any more: it said too much"),
)


@pytest.mark.parametrize(("entry", "words"), WORDS)
def test_words_of_what_was_said(entry: Said, words: str) -> None:
    """How each entry reads, live and in the report."""
    assert _said.in_words(entry) == words


def test_what_no_option_can_grant_is_no_advice() -> None:
    """What a program says is not bounded by what a plan may say."""
    assert _said.LONGEST_S == LONGEST_S
    assert _said.needs_time(LONGEST_S, "", "7 a", 7).next == "`--extend 604800s` would have granted it"
    assert _said.needs_time(LONGEST_S + 1, "", "7 a", 7).next == ""


def test_what_would_have_been_enough() -> None:
    """The hint names an extension that covers everything that was asked for."""
    said = (
        Said("need", 0.0, "a", seconds=3.0, granted_s=3.0),
        Said("need", 2.0, "b", seconds=8.0, granted_s=2.0, missing_s=4.0),
        Said("need", 3.0, "c", seconds=1.0, missing_s=0.5),
    )
    assert _said.extension(said, 5.0) == (9.0, "b")
    assert _said.extension(said, 7.0) == (11.0, "b"), "others had their part of it"
    assert _said.in_words(said[2], 5.0) == "needs 1 s more: c (not granted: --extend 5.5s would)"
    assert _said.extension(said[:1], 0.0) == (0.0, "")


# --------------------------------------------------------------------------- what it is


RECEIVERS = (
    (Receiver("running", "ingest", 10.0), 'yes, deadline known: "ingest", takes up to 10 s'),
    (Receiver("running", "", 2.5), "yes, deadline known: takes up to 2.5 s"),
    (
        Receiver("asked", "ingest", 10.0, 7.0, "SIGTERM", 3.0, "draining, 3 of 15"),
        'yes, deadline known: "ingest", takes up to 10 s; heard SIGTERM 3 s ago, has 7 s left, and says: draining, 3 of 15',
    ),
    (Receiver("hurry", "x", 1.0), 'yes, deadline known: "x", takes up to 1 s; was asked, is in a hurry'),
    (Receiver("silent"), "yes, but it does not answer"),
    (Receiver("refused", detail="only root"), "yes, but it does not speak with us: only root"),
    (Receiver("unusable", detail="a socket that is not its own"), "not usable: a socket that is not its own"),
)


@pytest.mark.parametrize(("receiver", "words"), RECEIVERS)
def test_words_of_a_receiver(receiver: Receiver, words: str) -> None:
    """The line of `look`."""
    assert _said.receiver_in_words(receiver) == words


def test_acquaintance_of_one_that_was_asked() -> None:
    """It is complete when the request that it is ending for has been told; the progress may come with it."""
    known = _said.Acquaintance()
    known.take(Message("hello", "ingest", 10.0, state="asked", left_s=7.0))
    assert not known.complete
    known.take(Message("heard", "SIGTERM", 3.0))
    known.take(Message("heard", "SIGINT", 1.0))
    known.take(Message("tell", "draining", done=3, total=15))
    assert known.complete
    assert known.receiver() == Receiver("asked", "ingest", 10.0, 7.0, "SIGTERM", 3.0, "draining, 3 of 15")


def test_acquaintance_of_strangers() -> None:
    """Who refuses, who says nothing, and who says nonsense."""
    refused = _said.Acquaintance()
    refused.take(Message("refused", "no"))
    assert (refused.complete, refused.receiver()) == (True, Receiver("refused", detail="no"))
    assert _said.Acquaintance().receiver() == Receiver("silent")
    assert _said.Acquaintance().receiver("nonsense") == Receiver("unusable", detail="nonsense")
