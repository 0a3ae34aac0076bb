"""ffmpeg and a JVM: programs that write the important part of their data when they end."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from . import programs
from .answers import pid_of
from .observer import need

if TYPE_CHECKING:
    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.slow]

_RECORDED_S = 0.3  # at least 10 pictures of 25 in a second


@pytest.mark.parametrize("plan", ["TERM/20", "INT/20"])
def test_ffmpeg_asked_by_signal_finishes_the_recording(lab: Lab, plan: str) -> None:
    """Its handler writes the index of the file."""
    ffmpeg = programs.start_ffmpeg(lab)

    report = lab.stop(ffmpeg.pid, "--plan", plan)

    assert report.outcome == "stopped"
    lab.nothing_left()
    seconds = programs.film_seconds(lab)
    assert seconds is not None
    assert seconds >= _RECORDED_S


def test_ffmpeg_asked_by_its_keyboard_finishes_the_recording(lab: Lab) -> None:
    """`q` on standard input is its own way, and gives a clean exit status too."""
    ffmpeg = programs.start_ffmpeg(lab, stdin=subprocess.PIPE)

    report = lab.stop(ffmpeg.pid, "--plan", "stdin:q/20")

    assert report.outcome == "stopped"
    assert report.asked()[ffmpeg.pid] == ["stdin:q"]
    assert ffmpeg.returncode() == 0
    lab.nothing_left()
    seconds = programs.film_seconds(lab)
    assert seconds is not None
    assert seconds >= _RECORDED_S


def test_ffmpeg_without_a_keyboard_is_not_asked_some_other_way(lab: Lab) -> None:
    """Standard input is /dev/null: the request does not exist, nothing else is sent instead, and it records on."""
    ffmpeg = programs.start_ffmpeg(lab)

    report = lab.stop(ffmpeg.pid, "--plan", "stdin:q/5")

    assert report.outcome == "unreachable"
    assert report.code == 77
    assert report.asked()[ffmpeg.pid] == []
    ffmpeg.expect(b"frame=")
    assert not ffmpeg.ended


def test_ffmpeg_without_a_keyboard_takes_the_next_step_of_the_plan(lab: Lab) -> None:
    """A step that is impossible costs no time."""
    ffmpeg = programs.start_ffmpeg(lab)

    report = lab.stop(ffmpeg.pid, "--plan", "stdin:q/50/TERM/40")

    assert report.outcome == "stopped"
    assert report.wall_s < 40
    assert programs.film_seconds(lab) is not None


def test_ffmpeg_below_a_shell_finishes_the_recording(lab: Lab) -> None:
    """The shell does not pass the request on; the tree is asked, and the recording is whole."""
    shell, ffmpeg = need("sh"), need("ffmpeg")
    script = lab.write(
        "record.sh",
        f"{ffmpeg} -hide_banner -loglevel error -progress pipe:1 -stats_period 0.1 -re -f lavfi -i testsrc=size=64x48:rate=25"
        ' -codec:v mpeg4 -threads 1 "$1"\necho after\n',
    )
    wrapper = lab.start(shell, script, lab.path("film.mp4"))
    wrapper.expect(b"frame=")
    wrapper.expect(b"frame=")

    report = lab.stop(wrapper.pid, "-t", "20s")

    assert report.outcome == "stopped"
    assert "ffmpeg" in {m["name"] for m in report.target["members"]}
    lab.nothing_left()
    assert programs.film_seconds(lab) is not None


def test_ffmpeg_is_found_by_the_file_that_it_writes(lab: Lab) -> None:
    """Who records into this file is who has it open."""
    ffmpeg = programs.start_ffmpeg(lab)

    report = lab.stop(f"file:{lab.path('film.mp4')}", "-t", "20s")

    assert report.outcome == "stopped"
    assert pid_of(report.target["ref"]) == ffmpeg.pid
    assert programs.film_seconds(lab) is not None


def test_ffmpeg_forced_breaks_the_recording(lab: Lab) -> None:
    """KILL leaves a file that nobody can play: force is never implied."""
    ffmpeg = programs.start_ffmpeg(lab)

    report = lab.stop(ffmpeg.pid, "--now")

    assert report.outcome == "forced"
    lab.nothing_left()
    assert programs.film_seconds(lab) is None


def test_jvm_runs_its_shutdown_hook(lab: Lab) -> None:
    """Exit status 143 is a clean stop of a JVM, and what the hook writes is there."""
    jvm = programs.start_jvm(lab)

    report = lab.stop(jvm.pid, "-t", "20s")

    assert report.outcome == "stopped"
    end = report.target["members"][0]["end"]
    assert end is not None
    assert (end["status"], end["signal"]) == (143, 0)
    assert lab.read("data") == "flushed\n"
    lab.nothing_left()


def test_jvm_asked_by_quit_only_prints_its_threads(lab: Lab) -> None:
    """A JVM takes QUIT for a question: the report says running."""
    jvm = programs.start_jvm(lab)

    report = lab.stop(jvm.pid, "--plan", "QUIT/1")

    assert report.outcome == "running"
    jvm.expect(b"Full thread dump")
    assert lab.read("data") == ""


def test_jvm_forced_loses_its_shutdown_hook(lab: Lab) -> None:
    """KILL runs no hook: force is never implied."""
    jvm = programs.start_jvm(lab)

    report = lab.stop(jvm.pid, "--now")

    assert report.outcome == "forced"
    assert lab.read("data") == ""
    lab.nothing_left()
