"""What the commands share: help, exit codes, and one line for whatever is wrong.

A command is a module with `define()`, which defines its absl flags, and `main()`, which runs it.
Its docstring is the head of its help: what it does, and example lines that begin with `enoto`. With
GROUPS, title -> names of flags, the flags are listed under titles.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from absl import flags

from enoto_jax.recipes.units import nearest
from enoto_jax.runs import progress
from enoto_jax.types import InputError, RunError, Stopped

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 75
HELP = ("--help", "-h", "-help", "--helpshort")
WIDEST = 100
_OURS = ("enoto_jax.", "experiments.")


def define_only(program: ModuleType) -> None:
    """Define one command's flags, at their defaults, and remove those of earlier commands.

    For processes that run several commands; `program` is the command's module.
    """
    for name in list(flags.FLAGS):
        if flags.FLAGS.find_module_defining_flag(name, "").startswith(_OURS):
            delattr(flags.FLAGS, name)
    program.define()


def execute(main: Callable[[], None], argv: Sequence[str], positional: str | None = None) -> int:
    """Parse the flags, run the command, and return the exit code for its outcome.

    Args:
      main: The command's `main`.
      argv: The command's name and arguments.
      positional: The flag that takes an argument without a name; a list flag takes all of them.
    """
    module = sys.modules[main.__module__]
    try:
        if any(argument in HELP for argument in argv[1:]):
            print(help_text(module))
            return DONE
        if "--helpfull" in argv[1:]:
            print(module.__doc__, flags.FLAGS.get_help(), sep="\n")
            return DONE
        _parse(module, argv, positional)
        main()
        sys.stdout.flush()
    except (InputError, flags.Error) as error:
        return _failed(error, BAD_INPUT)
    except RunError as error:
        return _failed(error, FAILED)
    except Stopped as stopped:
        progress.say(f"stopped at {stopped}; repeat the command to resume")
        return STOPPED
    except KeyboardInterrupt:
        progress.release()
        print("stopped at once; earlier checkpoints are intact", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the interpreter's last flush
        return FAILED
    return DONE


def _failed(error: Exception, code: int) -> int:
    progress.release()
    print(f"error: {one_line(error)}", file=sys.stderr)
    return code


def _parse(module: ModuleType, argv: Sequence[str], positional: str | None) -> None:
    """Give the flags their values.

    Raises:
      InputError: A flag is unknown or has no value, or an argument is not a flag.
    """
    try:
        rest = flags.FLAGS(list(argv))[1:]
    except flags.UnrecognizedFlagError as error:
        raise InputError(unknown_flag(module, error.flagname, argv[1:])) from None
    except flags.Error as error:
        if without := re.fullmatch(r"Missing value for flag --?(\S+)", str(error)):
            raise InputError(f"--{without[1]} has no value; write --{without[1]}=VALUE") from None
        raise
    if positional and rest and not flags.FLAGS[positional].present:
        several = isinstance(flags.FLAGS[positional].parser, flags.ListParser)
        count = len(rest) if several else 1
        flags.FLAGS[positional].parse(rest[:count] if several else rest[0])
        rest = rest[count:]
    if rest:
        raise InputError(f"{rest[0]!r} is not a flag; flags are written --name=value")


def unknown_flag(module: ModuleType, name: str, arguments: Sequence[str]) -> str:
    """Return the message for an unknown flag, with the command's own hint or the nearest flags."""
    hint = getattr(module, "unknown_flag", lambda name, arguments: None)(name, arguments)
    if hint is None:
        known = [f"--{flag.name}" for own in _own_flags().values() for flag in own]
        hint = nearest(f"--{name}", known) if known else "; this command has no flags"
    return f"--{name}: there is no such flag{hint}"


def one_line(error: Exception) -> str:
    """Return the error's text in one line, whatever it quotes."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))


def help_text(module: ModuleType) -> str:
    """Return what a command does, examples, and its flags in groups, at the terminal's width."""
    width = max(40, min(WIDEST, shutil.get_terminal_size().columns))
    own = _own_flags()
    known = {flag.name: flag for each in own.values() for flag in each}
    lines = _head(module.__doc__ or "", width)
    groups: Mapping[str, Iterable[str]] = getattr(module, "GROUPS", {})
    if not groups:
        mine = own.get(module.__name__, own.get(sys.argv[0], []))
        groups = {"Flags": [flag.name for flag in mine]} if mine else {}
    named = {each for names in groups.values() for each in names}
    column = min(22, max((len(each) for each in named), default=0) + 6)
    for title, names in groups.items():
        lines += ["", title]
        for each in names:
            lines += _flag(known[each], column, width)
    last = []
    if "method" in known and "method" not in named:
        last.append("The flags of enoto train are accepted too.")
    if named:
        last.append("Flags are written --name=value; --helpfull lists all there are.")
    return "\n".join([*lines, *([""] if last else []), *textwrap.wrap(" ".join(last), width)])


def _own_flags() -> dict[str, list[flags.Flag]]:
    """Module -> the flags that it defines, without those of libraries."""
    found = flags.FLAGS.flags_by_module_dict()
    return {
        name: list(own)
        for name, own in found.items()
        if name.startswith(_OURS) or name == sys.argv[0]
    }


def _head(doc: str, width: int) -> list[str]:
    """Wrap a docstring's paragraphs; leave its examples and indented lists as they are."""
    lines: list[str] = []
    for paragraph in doc.strip().split("\n\n"):
        rows = [row.strip() for row in paragraph.splitlines()]
        if lines:
            lines.append("")
        if all(row.startswith("  ") for row in paragraph.splitlines()):
            lines += paragraph.splitlines()
        elif rows[0].startswith(("enoto ", "python ", "MUJOCO_GL")):
            lines += [f"  {row}" for row in rows]
        else:
            lines += textwrap.wrap(" ".join(rows), width)
    return lines


def _flag(flag: flags.Flag, column: int, width: int) -> list[str]:
    """A flag and its help, on one line, or below it if the name is too long for that."""
    name, text = f"  --{flag.name}", " ".join((flag.help or "").split())
    if choices := re.match(r"<(.*?)>: (.*)\.$", text):  # absl's, of a flag with an enumeration
        text = f"{choices[2]}: {choices[1].replace('|', ', ')}."
    text = text.removesuffix("; repeat this option to specify a list of values")
    if flag.default not in (None, False, [], ""):
        text += f" Default: {str(flag.default_as_str).strip(chr(39))}."
    if width < 60:
        return [
            name,
            *textwrap.wrap(text, width - 6, initial_indent=" " * 6, subsequent_indent=" " * 6),
        ]
    rows = textwrap.wrap(text, width - column) or [""]
    first = [name] if len(name) >= column else []
    rows = [f"{'' if first or i else name:{column}}{row}" for i, row in enumerate(rows)]
    return first + rows


def new_folder(text: str) -> Path:
    """Return the --out of a command that never resumes.

    Raises:
      InputError: The path already exists.
    """
    if Path(text).exists():
        raise InputError(f"--out: {text} already exists; give a new folder")
    return Path(text)


def local(out: str) -> Path:
    """Return a folder to write to.

    Raises:
      InputError: It is an address: locks, CSV files and renames need a file system.
    """
    if "://" in out:
        raise InputError(
            f"--out: {out} is an address; runs need a folder: mount it, and give its path"
        )
    return Path(out)
