"""The command line: one thin file per command: parse, call, print. A command imports torch only when it needs it."""

from __future__ import annotations

import importlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from gankit.builtin import COMMANDS
from gankit.cli import complete

if TYPE_CHECKING:
    from gankit import Run


class Commands(click.Group):
    """All commands, of gankit and of the plugins. A command's module is imported when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *self._added]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            return importlib.import_module(f"gankit.cli.{name}").command
        return self._catalogue.get("commands", name) if name in self._added else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(self._rows())

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Names and options, without the import of every command."""
        items = [CompletionItem(name, help=words) for name, words in self._rows() if name.startswith(incomplete)]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def _rows(self) -> list[tuple[str, str]]:
        """Name and summary of each command."""
        added = [(name, command.get_short_help_str()) for name, (command, _) in self._added.items()]
        return [*COMMANDS.items(), *added]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.option_name} stands before a command: gankit COMMAND {error.option_name} …, such as "
                "gankit run began --data ./my-pictures. gankit --help lists the commands"
            ) from None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from gankit.errors import nearest

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if args[0] == "help":
                say(ctx.get_help())
                ctx.exit()
            if os.path.isdir(os.path.expanduser(args[0])):
                raise click.UsageError(
                    f"{args[0]} is a folder: to train on its pictures, gankit run {args[0]}"
                ) from None
            there = self.list_commands(ctx)
            if not nearest(args[0], there) and args[0] in self._catalogue.kind("models"):  # which imports torch
                raise click.UsageError(f"{args[0]} is a model: to train it, gankit run {args[0]}") from None
            raise click.UsageError(
                f"no command {args[0]!r}{nearest(args[0], there)}. There are: {', '.join(there)}"
                f"{self._catalogue.failures()}"
            ) from None

    @cached_property
    def _catalogue(self) -> Any:
        from gankit.catalogue import Catalogue

        return Catalogue()

    @property
    def _added(self) -> dict[str, tuple[click.Command, Any]]:
        """Commands of the plugins. None replaces one of gankit's."""
        return {name: item for name, item in self._catalogue.kind("commands").items() if name not in COMMANDS}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(package_name="gankit", message="gankit %(version)s")
def cli() -> None:
    """A GAN toolkit whose first model is BEGAN. Begin with: gankit run FOLDER

    RUN is the folder of a run, or `last` for the newest one below runs/.
    """


def main() -> None:
    """The entry point: a user error is one line on stderr and exit code 2, never a traceback."""
    from gankit.errors import TrainingError, UserError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a name that the terminal cannot show must not end a training
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        code = 2
    except click.ClickException as error:
        code = fail(error.format_message(), 2)
    except UserError as error:
        code = fail(str(error), 2)
    except TrainingError as error:
        code = fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        code = fail("interrupted; nothing is lost", 130)
    except BrokenPipeError:  # the reader of the output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except (MemoryError, ImportError, RuntimeError) as error:  # torch's libraries are large, and its errors its own
        if not isinstance(error, MemoryError) and not re.search("failed to map|allocate memory", str(error)):
            raise
        code = fail(f"there is not enough memory: close other programs, or raise the limit ({error or 'ulimit -v'})", 2)
    except OSError as error:  # a name that no file can have, a folder that nobody may read
        code = fail(f"{error.filename or 'a file'}: {error.strerror or error}", 2)
    sys.exit(code if isinstance(code, int) else 0)


LONGEST_WORD, LONGEST = 400, 3000  # characters of an error's line: a path and a list of all settings fit


def fail(message: str, code: int) -> int:
    """One line on stderr, of a bounded length whatever value it tells."""
    line = _shortened(" ".join(_shortened(word, LONGEST_WORD) for word in message.split()), LONGEST)
    with suppress(OSError, ValueError):  # a closed stderr must not change the exit code
        say(f"gankit: {line}", err=True)
    return code


def _shortened(text: str, most: int) -> str:
    """The text without its middle if it is longer than `most`. The end stays: it says what to do."""
    kept = most // 3
    return text if len(text) <= most else f"{text[:kept]}… {len(text) - 2 * kept:,} characters …{text[-kept:]}"


def say(text: str, err: bool = False) -> None:
    """Print text, and nothing that steers a terminal. All commands print through this."""
    click.echo(printable(text), err=err)


def printable(text: str) -> str:
    """The text with its control characters written out, as in JSON; names and messages may be a stranger's.

    Such characters can rewrite what a terminal shows, its title, or the order of letters. Line feeds and tabs stay.
    """
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _STEERING else _written_out(c) for c in text)


_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, directions, halves of characters, separators of lines


def _written_out(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[n : n + 4]}" for n in range(0, len(units), 4))


def exit_code(result: dict[str, Any]) -> int:
    """The exit code for a run's result."""
    from gankit.training.interrupts import EXIT_CODES

    if not result:  # its folder was deleted
        return 1
    if result["outcome"] == "interrupted":
        return EXIT_CODES[result["reason"]]
    return 3 if result["reason"] == "alarm" else 0


def aligned(rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> list[str]:
    """Rows of cells as lines with aligned columns. Columns in `numbers` are aligned to the right."""
    rows = [[" ".join(cell.splitlines()) for cell in row] for row in rows]  # a name's line feed forges no row
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [">" if place in numbers else "<" for place in range(len(wide))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, wide, strict=True)).rstrip()
        for row in rows
    ]


class RunPath(click.ParamType):  # type: ignore[type-arg]  # generic for type checkers only
    """The folder of a run; `last` is the newest one below runs/."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from gankit.runs.overview import standing_for

        return str(standing_for(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return complete.runs(incomplete)


RUN = RunPath()


class Aliased(click.Option):
    """An option with further spellings, `aliases`, that its help does not show."""

    def __init__(self, declarations: Sequence[str], aliases: Sequence[str] = (), **more: Any) -> None:
        super().__init__([*declarations, *aliases], **more)
        self.aliases = aliases

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        every, self.opts = self.opts, [spelling for spelling in self.opts if spelling not in self.aliases]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every


class AnyPath(click.Path):
    """A path that need not exist. A name that no file can have (a NUL in it) is told by what opens it, in one line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


def out_option(metavar: str, words: str, *aliases: str) -> Callable[..., Any]:
    """`-o`, `--out`: the place of what a command writes."""
    return click.option("-o", "--out", "out", cls=Aliased, aliases=aliases, type=AnyPath(), metavar=metavar, help=words)


class _Checkpoint(click.ParamType):  # type: ignore[type-arg]
    """A step, or `best`."""

    name = "checkpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "best" or isinstance(value, int):
            return value
        try:
            return int(value.replace(",", "").replace("_", ""))
        except ValueError:
            raise click.UsageError(f"--from {value} is neither a step nor best") from None


def from_option(what: str) -> Callable[..., Any]:
    """`--from`: the checkpoint that a command starts from."""
    return click.option(
        "--from",
        "from_step",
        cls=Aliased,
        aliases=("--step",),
        type=_Checkpoint(),
        metavar="STEP|best",
        help=f"{what}; default: the last. best: the one with the best score.",
    )


def scale_options(default: str) -> Callable[..., Any]:
    """`--scale` and `--smooth`, for every command that writes pictures."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function = click.option("--smooth", is_flag=True, help="Enlarge smoothly, not in sharp squares.")(function)
        scale = click.IntRange(1, 32)
        return click.option("--scale", type=scale, metavar="N", help=f"Enlarge N times; default: {default}.")(function)

    return decorate


def plugin_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--plugin`, for every command that rebuilds a model."""
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="FILE|DIR|MODULE",
        shell_complete=complete.files,
        help="A plugin that is not installed; may be repeated.",
    )(function)


def nproc_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--nproc`, for the commands that train."""
    return click.option(
        "--nproc",
        type=click.IntRange(1),
        default=1,
        metavar="N",
        help="Processes that share the work; a GPU each, or cores.",
    )(function)


def other_process(device: str | None) -> bool:
    """Whether torchrun started this process as another one than the first; it has then done its work.

    `device`: as asked for.
    """
    if "MASTER_ADDR" not in os.environ or os.environ.get("RANK", "0") == "0":
        return False
    from gankit.training.workers import serve

    serve(device)
    return True


def after_restart(folder: str | None, **told: Any) -> Run | None:
    """Go on with the run in that folder, if torchrun starts the command that began it once more; else None.

    A run that an alarm has stopped stays so: torchrun restarts after each exit code but 0. `told`: of `gankit.resume`.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" or folder is None:
        return None
    folder = os.path.expanduser(folder)
    if not os.path.isfile(os.path.join(folder, "config.json")):
        return None
    from gankit import Run, resume
    from gankit.runs.environment import of_this_job

    run = Run(folder)
    if not of_this_job(run):
        return None
    if run.result.get("outcome") not in ("finished", "stopped"):
        return resume(run, **told)
    from gankit.training.ranks import leave, started_by_torchrun

    if started_by_torchrun():
        leave()
    return run
