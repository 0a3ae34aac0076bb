"""`endtask completion SHELL`: completion scripts, made from the table of options.

Decision: static scripts, because a completion that starts Python on every TAB is felt; only names of processes are looked up when they are needed.
"""

from __future__ import annotations

from endtask.cli import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.cli.options import Option, Verb

_NAMES = "ps -eo comm= 2>/dev/null | sort -u"


def script(shell: str) -> str:
    """Return the completion script for `bash`, `zsh` or `fish`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _flags(verb: Verb) -> list[str]:
    return [f for o in options.options_of(verb.name) for f in o.flags] + ["--help"]


def _slashes(verb: Verb) -> str:
    """Return the options of a verb that writes them as Windows does, with blanks between."""
    from endtask.cli.slash_help import options as slash_options

    return " ".join(f"/{option.name}" for option in slash_options(verb.name))


def _values() -> dict[str, list[str]]:
    """Return the flags whose value is a file, a directory or a user; and the others that take one."""
    kinds: dict[str, list[str]] = {"file": [], "directory": [], "user": [], "": []}
    for option in options.OPTIONS:
        if option.value:
            kinds[option.kind if option.kind in kinds else ""].extend(option.flags)
    return kinds


# --------------------------------------------------------------------------- bash

_BASH = """\
# endtask completion for bash: eval "$(endtask completion bash)"
_endtask() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} i
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=( $(compgen -W '{verbs} --help --version' -- "$cur") )
        return
    fi
    if [[ $verb == run ]]; then
        for (( i = 2; i < COMP_CWORD; i++ )); do
            if [[ ${{COMP_WORDS[i]}} == -- ]]; then
                COMPREPLY=( $(compgen -c -f -- "$cur") )
                return
            fi
        done
    fi
    case $prev in
        {files}) compopt -o filenames 2>/dev/null; COMPREPLY=( $(compgen -f -- "$cur") ); return ;;
        {directories}) compopt -o filenames 2>/dev/null; COMPREPLY=( $(compgen -d -- "$cur") ); return ;;
        {users}) COMPREPLY=( $(compgen -u -- "$cur") ); return ;;
        {others}) return ;;
    esac
    if [[ $cur == -* ]]; then
        case $verb in
{flags}
        esac
        return
    fi
    case $verb in
{words}
    esac
}}
complete -F _endtask endtask
"""


def _bash() -> str:
    values = _values()
    flags = [
        f"            {v.name}) COMPREPLY=( $(compgen -W '{' '.join(_flags(v))}' -- \"$cur\") ) ;;"
        for v in options.VERBS
    ]
    words = []
    for verb in options.VERBS:
        if verb.words == "what":
            words.append(f'        {verb.name}) COMPREPLY=( $(compgen -W "$({_NAMES})" -- "$cur") ) ;;')
        elif verb.words == "slashes":
            names = f" $({_NAMES})" if verb.name == "taskkill" else ""
            words.append(f'        {verb.name}) COMPREPLY=( $(compgen -W "{_slashes(verb)}{names}" -- "$cur") ) ;;')
        elif verb.words == "name":
            words.append(f"        {verb.name}) COMPREPLY=( $(compgen -W '{' '.join(verb.choices)}' -- \"$cur\") ) ;;")
    return _BASH.format(
        verbs=" ".join(v.name for v in options.VERBS),
        files="|".join(values["file"]),
        directories="|".join(values["directory"]),
        users="|".join(values["user"]),
        others="|".join(values[""]),
        flags="\n".join(flags),
        words="\n".join(words),
    )


# --------------------------------------------------------------------------- zsh

_ZSH = """\
#compdef endtask
# endtask completion for zsh: eval "$(endtask completion zsh)", or this text as _endtask in a folder of $fpath
_endtask() {{
    local -a verbs options
    if (( CURRENT == 2 )); then
        verbs=({verbs})
        _describe 'verb' verbs
        return
    fi
    local verb=$words[2]
    case $verb in
{cases}
    esac
    shift words
    (( CURRENT-- ))
    _arguments -s -S $options
}}
_endtask_names() {{
    local -a names
    names=(${{(f)"$({names})"}})
    compadd -a names
}}
compdef _endtask endtask
"""


def _zsh() -> str:
    verbs = " ".join(_zsh_quoted(f"{v.name}:{v.summary}") for v in options.VERBS)
    cases = []
    for verb in options.VERBS:
        specs = [spec for o in options.options_of(verb.name) for spec in _zsh_specs(o)]
        if verb.words == "what":
            specs.append("'*:what:_endtask_names'")
        elif verb.words == "slashes":
            specs.append(f"'*:option:({_slashes(verb)})'")
        elif verb.words == "name":
            specs.append(f"'1:name:({' '.join(verb.choices)})'")
        elif verb.words == "command":
            specs.append("'*::command:_normal'")
        cases.append(f"        {verb.name}) options=({' '.join(specs)}) ;;")
    return _ZSH.format(verbs=verbs, cases="\n".join(cases), names=_NAMES)


def _zsh_specs(option: Option) -> list[str]:
    text = option.text.replace("[", "(").replace("]", ")").replace(":", " -")
    action = {"file": "_files", "directory": "_files -/", "user": "_users"}.get(option.kind, "")
    value = f":{option.value}:{action}" if option.value else ""
    many = "*" if option.many else ""
    specs = []
    for flag in option.flags:
        sign = "" if not option.value else ("=" if flag.startswith("--") else "+")
        specs.append(_zsh_quoted(f"{many}{flag}{sign}[{text}]{value}"))
    return specs


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --------------------------------------------------------------------------- fish


def _fish() -> str:
    lines = ["# endtask completion for fish: endtask completion fish | source", "complete -c endtask -f"]
    for verb in options.VERBS:
        lines.append(f"complete -c endtask -n __fish_use_subcommand -a {verb.name} -d {_fish_quoted(verb.summary)}")
    for option in options.OPTIONS:
        lines.append(_fish_option(option))
    for verb in options.VERBS:
        seen = f"-n '__fish_seen_subcommand_from {verb.name}'"
        if verb.words == "what":
            lines.append(f"complete -c endtask {seen} -a '({_NAMES})'")
        elif verb.words == "slashes":
            lines.append(f"complete -c endtask {seen} -a '{_slashes(verb)}'")
        elif verb.words == "name":
            lines.append(f"complete -c endtask {seen} -a '{' '.join(verb.choices)}'")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    parts = [f"complete -c endtask -n '__fish_seen_subcommand_from {' '.join(option.verbs)}'"]
    parts += [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    if option.value:
        parts.append(
            {
                "file": "-r -F",
                "directory": "-x -a '(__fish_complete_directories)'",
                "user": "-x -a '(__fish_complete_users)'",
            }.get(option.kind, "-x")
        )
    parts.append(f"-d {_fish_quoted(option.text)}")
    return " ".join(parts)


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
