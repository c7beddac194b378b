"""The command line: ``otel-ebpf``.

In: arguments and environment. Out: an exit code: 0 done, 1 cannot run here, 2 wrong usage or setting. What goes wrong
is one sentence on standard error.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from otel_ebpf.config import Settings
from otel_ebpf.errors import AgentError, CannotRun
from otel_ebpf.privileges import can_capture, own_status

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM: Final = "otel-ebpf"
MAX_DURATION_S: Final = 10_000_000.0  # 115 days: more is a mistyped number
INTERRUPTED: Final = 130  # what shells give for Ctrl-C

Command = Callable[[argparse.Namespace], int]

_DESCRIPTION: Final = """\
Watches every TCP connection of this machine in the kernel and tells in OpenTelemetry who talks to whom, what was asked
and answered, and how long it took.
"""
_EXAMPLES: Final = """\
examples:
  sudo otel-ebpf run --duration 30           show for half a minute what goes on
  otel-ebpf check                            what this machine allows, hook by hook
  sudo OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 otel-ebpf run
                                             send it to a Collector
  sudo OTEL_EBPF_OPEN_PORT=80,8000-8999 OTEL_EBPF_EXCHANGE_LOGS=all otel-ebpf run
                                             every request to these servers
  sudo otel-ebpf record traffic.rec --duration 10
  otel-ebpf replay traffic.rec               the same telemetry, anywhere, without privileges

exit codes: 0 done, 1 cannot run here, 2 wrong usage or setting
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{PROGRAM}: {message}; see {self.prog} --help\n")


def parser() -> Parser:
    """Return the parser of all commands; each stores its function as ``command``."""
    top = Parser(
        PROGRAM, description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {version(PROGRAM)}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, function: Command, summary: str) -> Parser:
        found: Parser = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        found.set_defaults(command=function)
        return found

    _add_duration(add("run", _run, "watch this machine until interrupted"))
    _add_json(add("check", _check, "say what this machine allows, and what is lost"))
    record = add("record", _record, "write raw kernel records to a file")
    record.add_argument("file", type=Path, metavar="FILE", help="file to write")
    _add_duration(record)
    replay = add("replay", _replay, "give the telemetry of a recording; needs no privileges")
    replay.add_argument("file", type=Path, metavar="FILE", help="file that `record` wrote")
    _add_json(add("settings", _settings, "list every setting, its value and where it comes from"))
    return top


def _add_duration(command: Parser) -> None:
    command.add_argument("--duration", type=seconds, metavar="S", help="end after this many seconds")


def _add_json(command: Parser) -> None:
    command.add_argument("--json", action="store_true", help="for programs instead of people")


def seconds(text: str) -> float:
    """Read a number of seconds.

    Raises:
        argparse.ArgumentTypeError: It is none, or not from above 0 to ``MAX_DURATION_S``.
    """
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= MAX_DURATION_S:  # false for NaN, too
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is not a number of seconds above 0")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        chosen = parser().parse_args(arguments)
        command: Command = chosen.command
        return command(chosen)
    except AgentError as error:
        for line in str(error).splitlines():
            print(f"{PROGRAM}: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone, as with `| head`. The interpreter must not try to flush to it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(chosen: argparse.Namespace) -> int:
    settings = _read_settings()
    _require_capture()
    from otel_ebpf import agent

    return agent.run(settings, duration_s=chosen.duration)


def _check(chosen: argparse.Namespace) -> int:
    settings = _read_settings()
    from otel_ebpf import agent
    from otel_ebpf.check import print_report

    report = agent.check(settings)
    if chosen.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report, _console())
    return 0 if report.can_run else 1


def _record(chosen: argparse.Namespace) -> int:
    settings = _read_settings()
    _require_capture()
    from otel_ebpf import agent

    return agent.record(settings, chosen.file, duration_s=chosen.duration)


def _replay(chosen: argparse.Namespace) -> int:
    settings = _read_settings()
    from otel_ebpf import agent

    return agent.replay(settings, chosen.file)


def _settings(chosen: argparse.Namespace) -> int:
    from otel_ebpf.settings_docs import print_rows, setting_rows

    rows = setting_rows(os.environ)
    if chosen.json:
        print(json.dumps([row.as_dict() for row in rows], indent=2))
    else:
        print_rows(rows, _console())
    return 0


def _console() -> Console:
    """Return where tables go; into a file or a pipe nothing is folded to the width of a terminal that is not there."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=200)


def _read_settings() -> Settings:
    settings = Settings.from_environment(os.environ)
    level = {"warn": "WARNING"}.get(settings.log_level, settings.log_level.upper())
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    return settings


def _require_capture() -> None:
    """Ask for root where it is needed.

    Raises:
        CannotRun: This process may not load kernel programs; the text is the command to type instead.
    """
    if not can_capture(own_status()):
        raise CannotRun(how_to_become_root(sys.argv, os.environ))


def how_to_become_root(command: list[str], environment: Mapping[str, str]) -> str:
    """Return the sentence that says what is missing, and the exact command that helps where sudo is installed."""
    needed = "this needs root, or the capabilities BPF and PERFMON"
    if os.geteuid() == 0 or shutil.which("sudo", path=environment.get("PATH")) is None:
        return needed
    kept = ",".join(sorted(name for name in environment if name.startswith("OTEL_")))
    sudo = ["sudo", *([f"--preserve-env={kept}"] if kept else [])]
    program = shutil.which(command[0], path=environment.get("PATH")) or command[0]
    return f"{needed}; type: {shlex.join([*sudo, str(Path(program).absolute()), *command[1:]])}"
