"""The parser: one table, no abbreviations, every mistake a sentence with a hint."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endtask.cli import arguments, completion, options, parser
from endtask.cli import help as help_texts
from endtask.cli.options import Parsed
from endtask.errors import EndtaskError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")

FLAGS = sorted({flag for option in options.OPTIONS for flag in option.flags})
VERBS = [verb.name for verb in options.VERBS]
WORDS = st.text(max_size=12)


def fails(*argv: str) -> UsageError:
    """Return the error that these arguments lead to."""
    with pytest.raises(UsageError) as caught:
        parser.parse(argv)
    return caught.value


def outcome(call: Callable[[], Result]) -> Result | EndtaskError:
    """Return what *call* returns, or the error of ours that it raises; any other error fails the test."""
    try:
        return call()
    except EndtaskError as error:
        return error


# --- grammar


@settings(deadline=None)  # a loaded machine is no failure
@given(
    st.lists(
        st.one_of(WORDS, st.sampled_from(FLAGS + VERBS + ["--", "-", "-q=1", "--json=", "-t5s", "--timeout=5s"])),
        max_size=8,
    )
)
def test_parse_anything_gives_a_command_line_or_a_sentence(argv: list[str]) -> None:
    """No arguments whatever lead to anything but `Parsed` or `UsageError` with a message."""
    result = outcome(lambda: parser.parse(argv))
    if isinstance(result, EndtaskError):
        assert result.message
        assert result.exit_code == 2
    else:
        assert result.verb in (*VERBS, "help", "version")


@settings(deadline=None)  # a loaded machine is no failure
@given(st.sampled_from(VERBS), st.lists(st.one_of(WORDS, st.sampled_from(FLAGS)), max_size=8))
def test_parse_a_verb_with_anything_gives_a_command_line_or_a_sentence(verb: str, rest: list[str]) -> None:
    """The same with a valid verb first, so that options are reached."""
    result = outcome(lambda: parser.parse([verb, *rest]))
    assert result.verb in (verb, "help") if isinstance(result, Parsed) else result.message


@st.composite
def command_lines(draw: st.DrawFn) -> Parsed:
    """Valid command lines of the verbs that take a WHAT."""
    verb = draw(st.sampled_from([v for v in options.VERBS if v.words == "what"]))
    words = draw(st.lists(WORDS, min_size=1, max_size=4))
    given: list[tuple[str, str]] = []
    excluded: set[str] = set()
    for option in draw(st.lists(st.sampled_from(options.options_of(verb.name)), max_size=6)):
        if option.excludes and option.excludes in excluded:
            continue
        excluded.add(option.excludes)
        value = ""
        if option.value:
            value = draw(
                st.integers(0, 10**9).map(str) if option.kind == "number" else st.text(min_size=1, max_size=12)
            )
        given.append((option.name, value))
    return Parsed(verb.name, tuple(words), tuple(given))


@settings(deadline=None)  # a loaded machine is no failure
@given(command_lines())
def test_to_argv_parses_to_the_same_again(parsed: Parsed) -> None:
    """What is shown as a command line is one, and means the same."""
    assert parser.parse(options.to_argv(parsed)) == parsed


@settings(deadline=None)  # a loaded machine is no failure
@given(command_lines(), st.randoms())
def test_options_may_stand_anywhere(parsed: Parsed, random: object) -> None:
    """Options before, between and after the words mean the same."""
    argv = options.to_argv(Parsed(parsed.verb, (), parsed.given))
    words = [w for w in parsed.words if not w.startswith("-")] or ["x"]
    expected = parser.parse([*argv, *words])
    assert parser.parse([argv[0], *words, *argv[1:]]) == expected
    assert parser.parse([argv[0], words[0], *argv[1:], *words[1:]]) == expected


@pytest.mark.parametrize(
    "argv", [["-t", "5s"], ["-t5s"], ["--timeout", "5s"], ["--timeout=5s"], ["-qt5s"], ["-qt", "5s"]]
)
def test_value_in_every_spelling_is_the_same(argv: list[str]) -> None:
    """All spellings of the cli reference give the same value."""
    assert parser.parse(["stop", *argv, "x"]).text("timeout") == "5s"


def test_last_value_wins_and_repeated_options_are_all_kept() -> None:
    """`-t` twice: the last; `--keep` twice: both."""
    parsed = parser.parse(["stop", "x", "-t1", "--keep", "a", "-t", "2", "--keep=b"])
    assert parsed.text("timeout") == "2"
    assert parsed.texts("keep") == ("a", "b")
    assert parsed.text("plan") is None
    assert not parsed.has("json")


def test_double_dash_ends_the_options() -> None:
    """After `--` everything is a word."""
    assert parser.parse(["stop", "--", "-9", "--json"]).words == ("-9", "--json")


def test_single_dash_is_a_word() -> None:
    """`-` is standard input, not an option."""
    assert parser.parse(["stop", "-", "-q"]).words == ("-",)


def test_run_leaves_the_options_of_its_command_alone() -> None:
    """The first word begins the command, with or without `--`."""
    assert parser.parse(["run", "-t5s", "ls", "-q", "--", "-f"]).words == ("ls", "-q", "--", "-f")
    assert parser.parse(["run", "--", "-x", "--json"]).words == ("-x", "--json")


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["help"]])
def test_help_of_the_whole(argv: list[str]) -> None:
    """Every way of asking for help is understood."""
    assert parser.parse(argv) == Parsed("help")


@pytest.mark.parametrize("argv", [["stop", "--help"], ["stop", "x", "-h"], ["help", "stop"]])
def test_help_of_a_verb(argv: list[str]) -> None:
    """Help of a verb, also after its words."""
    assert parser.parse(argv) == Parsed("help", ("stop",))


def test_version_flags() -> None:
    """`--version` and `-V` are the verb `version`."""
    assert parser.parse(["--version"]) == parser.parse(["-V"]) == parser.parse(["version"]) == Parsed("version")


@pytest.mark.parametrize("word", ["report", "report/1", "endtask.report/1"])
def test_schema_takes_every_form_of_its_name(word: str) -> None:
    """The name in a document can be pasted."""
    assert options.schema_name(parser.parse(["schema", word]).words[0]) == "report"


# --- mistakes


def test_unknown_option_names_the_nearest() -> None:
    """One sentence and the nearest match."""
    error = fails("stop", "x", "--tiemout", "5")
    assert error.message == "`--tiemout` is not an option of `endtask stop`"
    assert error.hint == "did you mean `--timeout`?"


@pytest.mark.parametrize("flag", ["--time", "--tim", "--force-af", "--js"])
def test_abbreviations_are_refused_with_the_full_name(flag: str) -> None:
    """No abbreviations; the hint has the whole word."""
    assert "did you mean" in fails("stop", "x", flag).hint


def test_dash_f_answers_with_a_sentence_of_its_own() -> None:
    """`-f` means two things elsewhere, so it means nothing here."""
    error = fails("stop", "-f", "x")
    assert "not taken" in error.message
    assert "--force-after" in error.hint
    assert "--cmdline" in error.hint


@pytest.mark.parametrize("flag", ["-9", "-KILL", "-SIGKILL", "-TERM", "-INT", "-15", "-1"])
def test_signals_in_the_way_of_kill_are_refused_with_the_right_way(flag: str) -> None:
    """`-9` neither forces nor is taken for a pid."""
    error = fails("stop", flag, "x")
    assert "kill(1)" in error.message
    assert "--" in error.hint


def test_empty_value_is_refused() -> None:
    """`--user "$UNSET"` must not mean everybody."""
    for argv in (["--user", ""], ["--user="], ["--keep", ""], ["--cmdline="]):
        assert "empty" in fails("stop", "x", *argv).message


@pytest.mark.parametrize("argv", [["--timeout"], ["-t"], ["--timeout", "--json"], ["--timeout", "--", "5"]])
def test_missing_value_is_refused(argv: list[str]) -> None:
    """A known option is never taken for a value."""
    assert "needs a value" in fails("stop", "x", *argv).message


def test_value_that_looks_like_an_option_is_given_with_equals() -> None:
    """`--cmdline=--json` is the way to mean it; an unknown dash word is a value."""
    assert parser.parse(["stop", "x", "--cmdline=--json"]).text("cmdline") == "--json"
    assert parser.parse(["stop", "x", "--cmdline", "--daemon"]).text("cmdline") == "--daemon"


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], "needs to be told"),
        (["stop"], "needs to know what"),
        (["run"], "needs a command"),
        (["run", ""], "an empty word is no command"),
        (["schema"], "none was given"),
        (["-9", "5"], "the way of kill(1)"),
        (["schema"], "needs one of"),
        (["schema", "x"], "`x` is not one of them"),
        (["completion", "bash", "zsh"], "2 were given"),
        (["demo", "x"], "takes no words"),
        (["stop", "x", "--json=1"], "takes no value"),
        (["stop", "x", "--json", "--jsonl"], "exclude each other"),
        (["stop", "x", "--only", "-T"], "exclude each other"),
        (["stop", "x", "--session", "abc"], "needs a number"),
        (["stop", "x", "--parent", "-1"], "needs a number"),
        (["look", "x", "--plan", "TERM"], "has no option"),
        (["1234"], "not a verb"),
        (["--json", "stop", "x"], "before the verb"),
        (["--nonsense"], "not an option"),
        (["help", "nonsense"], "not a verb"),
        (["stop", "x", "-qZ"], "`-Z` in `-qZ`"),
    ],
)
def test_mistakes_are_named(argv: list[str], part: str) -> None:
    """Each mistake has its sentence and a hint, never the whole help text."""
    error = fails(*argv)
    assert part in error.message
    assert error.hint
    assert "\n" not in error.message + error.hint


def test_unknown_verb_names_the_nearest_or_the_likely_command() -> None:
    """`stpo` is `stop`; a program's name is probably what to stop."""
    assert fails("stpo", "x").hint == "did you mean `endtask stop`?"
    assert "`endtask stop 'my app'`" in fails("my app").hint


@pytest.mark.parametrize(
    ("word", "verb"), [("kill", "stop"), ("Terminate", "stop"), ("ps", "find"), ("status", "look")]
)
def test_verbs_of_other_tools_are_understood_and_named(word: str, verb: str) -> None:
    """Who types `kill` does not want to stop a program of that name."""
    assert fails(word, "5").hint == f"did you mean `endtask {verb}`?"


def test_examples_fit_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """No example of Windows has a signal or a path of Unix in it, and every one can be parsed."""
    for signals in (True, False):
        monkeypatch.setattr("endtask._requests.HAS_SIGNALS", signals)
        for verb in options.VERBS:
            for line in options.examples_of(verb):
                assert signals or not re.search(r"TERM|INT|/srv|'", line), line
                for command in line.split(" | ") if verb.words != "name" else ():
                    parser.parse(shlex.split(command)[1:])
        assert ("TERM" in options.example("plan")) == signals == options.example("cwd").startswith("/")


# --- arguments for the library


def test_filters_carry_every_option() -> None:
    """Each filter option arrives in its field."""
    parsed = parser.parse(
        [
            "stop",
            "x",
            "--user=u",
            "--cmdline=c",
            "--cwd=/d",
            "--older=10m",
            "--newer",
            "1h",
            "--session=3",
            "--parent=4",
            "--fi=a",
            "--fi=b",
        ]
    )
    wanted = arguments.filters(parsed)
    assert (wanted.user, wanted.cmdline, wanted.cwd) == ("u", "c", "/d")
    assert (wanted.older_s, wanted.newer_s) == (600.0, 3600.0)
    assert (wanted.session, wanted.parent, wanted.fi) == (3, 4, ("a", "b"))


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        ("--tree", "tree"),
        ("-T", "tree"),
        ("--only", "only"),
        ("--group", "group"),
        ("--session-of", "session"),
        ("--cgroup", "cgroup"),
    ],
)
def test_scope_options(flag: str, kind: str) -> None:
    """Each scope option gives its scope; the tree is the default."""
    assert arguments.scope(parser.parse(["stop", "x", flag])).kind == kind
    assert arguments.scope(parser.parse(["stop", "x"])).kind == "tree"


def test_policy_is_polite_unless_told_otherwise() -> None:
    """The default: TERM, ten seconds, no force."""
    policy = arguments.policy(parser.parse(["stop", "x"]))
    assert [s.request.name for s in policy.steps] == ["TERM"]
    assert policy.budget_s == 10.0
    assert not any(s.request.forced for s in policy.steps)


def test_policy_carries_every_option() -> None:
    """Each option of how to stop arrives in its field."""
    policy = arguments.policy(
        parser.parse(["stop", "x", "-t20s", "--force-after=5s", "--watch", "2s", "--all", "--missing-ok", "--force-ok"])
    )
    assert [s.request.name for s in policy.steps] == ["TERM", "KILL"]
    assert (policy.budget_s, policy.watch_s) == (20.0, 2.0)
    assert policy.all
    assert policy.missing_ok
    assert policy.force_ok


def test_wait_has_no_steps() -> None:
    """`wait` sends nothing."""
    policy = arguments.policy(parser.parse(["wait", "x", "-t", "1m"]))
    assert policy.steps == ()
    assert policy.budget_s == 60.0


@settings(deadline=None)  # a loaded machine is no failure
@given(st.text(max_size=12))
def test_durations_are_read_or_refused(text: str) -> None:
    """No text for a duration leads to anything but a number or `PlanError`."""
    parsed = Parsed("stop", ("x",), (("timeout", text),))
    result = outcome(lambda: arguments.policy(parsed).budget_s)
    assert result.message if isinstance(result, EndtaskError) else result >= 0


@settings(deadline=None)  # a loaded machine is no failure
@given(st.binary(max_size=200))
def test_lines_of_standard_input_are_words_or_refused(data: bytes) -> None:
    """Whatever stands on standard input: words without line ends, or a sentence."""
    words = outcome(lambda: arguments.lines_of(data))
    if isinstance(words, EndtaskError):
        assert words.message
    else:
        assert all(words)
        assert not any("\n" in w for w in words)


def test_standard_input_takes_the_lines_of_find() -> None:
    """`endtask find x | endtask stop -`: the identity counts, the name is for people; other lines stay whole."""
    data = b"12:345 nginx worker\r\n\n  :3000\nWeb Content\n7:t99 x\n12 nginx\n"
    assert arguments.lines_of(data) == ["12:345", ":3000", "Web Content", "7:t99", "12 nginx"]


def test_standard_input_is_read_once() -> None:
    """`-` twice does not wait for input twice."""
    calls = []

    def read() -> bytes:
        calls.append(1)
        return b"a\n"

    assert arguments.wanted(parser.parse(["stop", "-", "b", "-"]), read) == ("a", "b")
    assert len(calls) == 1


# --- what is made from the table


def test_flags_are_unique_within_a_verb() -> None:
    """No flag means two things."""
    for verb in VERBS:
        flags = [f for o in options.options_of(verb) for f in o.flags]
        assert len(flags) == len(set(flags))


def test_every_option_belongs_to_known_verbs_and_groups() -> None:
    """The table has no dangling names."""
    for option in options.OPTIONS:
        assert set(option.verbs) <= set(VERBS)
        assert option.group in options.GROUPS
        assert option.flags[-1].startswith("--")
        assert not option.value or parser.parse(["help"])


def test_help_names_every_verb_option_and_exit_code() -> None:
    """The help comes from the table and is complete."""
    overview = help_texts.help_text()
    reference = help_texts.reference()
    for verb in options.VERBS:
        text = help_texts.help_text(verb.name)
        assert verb.name in overview
        assert f"### endtask {verb.name}" in reference
        for option in options.options_of(verb.name):
            assert all(flag in text for flag in option.flags)
    assert "124" in overview
    assert max(len(line) for line in overview.splitlines()) <= 100


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_every_verb_and_long_option(shell: str) -> None:
    """The completion comes from the table and is complete."""
    script = completion.script(shell)
    for option in options.OPTIONS:
        assert option.name in script
    for verb in VERBS:
        assert verb in script
