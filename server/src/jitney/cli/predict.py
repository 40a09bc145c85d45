"""``jitney predict``: the rows of a file through a model, on a server or in workers of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jitney.cli import connection
from jitney.cli.failure import CommandError
from jitney.cli.numbers import count, positive
from jitney.cli.table import duration
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jitney.scoring.journal import Journal
    from jitney.scoring.model import Endpoint, Model
    from jitney.scoring.table import Source

__all__ = ["add_parser", "run"]

SOME_FAILED: Final = 3
SHOWN: Final = 5
"""Failed rows that are printed; the file lists them all."""
EPILOG = """\
Columns become inputs by their names: a column `x`, or `x_0`, `x_1`, ..., is the input x. The input
of a model that has no other gets all numeric columns. --column says it otherwise.

A run that was interrupted goes on where it was when the same command is given again. Rows that the
model cannot take are left empty in the result, with the reason in its column `error`, and listed in
OUT.errors.jsonl.

exit codes: 0 every row has a result; 3 the result is written, and some rows failed; 1 the run ended
before (what is done is kept); 2 wrong command line or input file; 130 interrupted (likewise kept)

examples:
  jitney predict digits images.npz -o scores.npz
  jitney predict churn customers.csv -o scored.parquet --keep customer_id --column features=age,plan
  jitney predict churn customers.csv -o scored.csv --local models/repository --device cuda:0

Parquet needs pyarrow: pip install 'jitney[parquet]'
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "predict",
        help="score the rows of a file",
        description="Run a model on every row of a file, in batches, and write the outputs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument(
        "input", type=Path, metavar="INPUT", help="a file: .npz, .npy, .csv, .tsv or .parquet"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="OUT",
        help="the result: .npz, .csv, .tsv or .parquet",
    )
    parser.add_argument("--version", default="", metavar="N", help="the model's version (newest)")
    _add_column_flags(parser.add_argument_group("columns"))
    _add_run_flags(parser.add_argument_group("the run"))
    _add_local_flags(parser.add_argument_group("without a server"))
    connection.add_flags(parser)
    parser.set_defaults(run=run)


def _add_column_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--column",
        action="append",
        default=[],
        dest="columns",
        metavar="INPUT=COLUMN,...",
        help="what an input is made of: one column (of numbers, texts or lists), or a column for "
        "each of its elements; repeated",
    )
    group.add_argument(
        "--keep",
        type=_names,
        default=[],
        metavar="COLUMN,...",
        help="columns of the file to have in the result as well; * for all",
    )
    group.add_argument(
        "--output",
        action="append",
        default=[],
        dest="outputs",
        metavar="NAME",
        help="an output to write (default all); repeated",
    )
    group.add_argument(
        "--error-column",
        default="error",
        metavar="NAME",
        help="the column that says what went wrong; true or false in a .npz (default error)",
    )


def _add_run_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="what a row does that the model cannot take: it is left empty, or ends the run",
    )
    group.add_argument(
        "--rows", type=count, default=0, metavar="N", help="rows of a request (the model's limit)"
    )
    group.add_argument(
        "--concurrency", type=count, default=8, metavar="N", help="requests at once (default 8)"
    )
    group.add_argument(
        "--priority", type=count, default=0, metavar="N", help="of the requests; 1 is the highest"
    )
    group.add_argument(
        "--patience",
        type=lambda text: positive(text, "seconds"),
        default=60.0,
        metavar="SECONDS",
        help="how long a server may be busy or away before that ends the run (default 60)",
    )
    group.add_argument("--restart", action="store_true", help="forget what an earlier run has done")
    group.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")


def _add_local_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--local",
        metavar="PATH",
        help="load the model from a repository, its folder or its .pt file, into workers of this "
        "command; its code runs: only what you trust",
    )
    group.add_argument("--config", type=Path, metavar="FILE", help="the server's settings file")
    for flag, path, metavar, help_ in (
        ("--device", "devices.device", "DEVICE", "where to run it: auto, cpu, cuda:0,cuda:1"),
        ("--cpu-threads", "devices.cpu_threads", "N", "threads of the CPU"),
    ):
        group.add_argument(
            flag,
            dest=path,
            default=argparse.SUPPRESS,
            metavar=metavar,
            help=f"{help_} (as for jitney serve)",
        )


def run(arguments: argparse.Namespace) -> int:
    """Score the file; return 0, or 3 if some rows have no result."""
    columns = _columns(arguments.columns)
    given = [key.partition(".")[2].replace("_", "-") for key in vars(arguments) if "." in key]
    given += ["config"] if arguments.config is not None else []
    if given and arguments.local is None:
        msg = f"--{given[0]} is for --local: a server has its own"
        raise ConfigError(msg)
    # numpy and the client, after the command line is right.
    from jitney.scoring.assemble import check_result, errors_path  # noqa: PLC0415
    from jitney.scoring.sources import open_source  # noqa: PLC0415

    out: Path = arguments.out
    check_result(out)
    if out.exists() and not arguments.overwrite:
        msg = f"-o {out}: it is there already; --overwrite replaces it"
        raise ConfigError(msg)
    if out.exists() and arguments.input.exists() and out.samefile(arguments.input):
        msg = f"-o {out}: it is the input"
        raise ConfigError(msg)
    with open_source(arguments.input) as source:
        try:
            done = asyncio.run(_predict(arguments, source, columns))
        except OSError as error:
            msg = f"{error.filename or out}: {error.strerror or error}"
            raise CommandError(msg) from None
    rate = (done.rows - done.before) / max(done.seconds, 1e-3)
    earlier = f", {done.before:,} of them earlier" if done.before else ""
    took = f"{duration(done.seconds)}, {rate:,.0f} rows/s"
    sys.stdout.write(f"{out}: {done.rows:,} rows{earlier} ({took}), {done.failed:,} failed\n")
    if done.failed:
        sys.stdout.write(f"{errors_path(out)}: which, and why\n")
    return SOME_FAILED if done.failed else 0


class _Done(NamedTuple):
    """Rows of the file, those that an earlier run had done, those without a result, seconds."""

    rows: int
    before: int
    failed: int
    seconds: float


async def _predict(
    arguments: argparse.Namespace, source: Source, columns: dict[str, list[str]]
) -> _Done:
    """Score, and write the result."""
    from jitney.scoring.assemble import FLAT, assemble  # noqa: PLC0415  # numpy
    from jitney.scoring.journal import Journal  # noqa: PLC0415
    from jitney.scoring.layout import layout_of  # noqa: PLC0415
    from jitney.scoring.mapping import map_columns  # noqa: PLC0415
    from jitney.scoring.model import look_up  # noqa: PLC0415

    out: Path = arguments.out
    async with _endpoint(arguments) as (endpoint, name):
        model = await look_up(endpoint, name, arguments.version, arguments.outputs)
        inputs = map_columns(model, source.columns, columns, arguments.keep)
        layout = layout_of(
            source.columns,
            arguments.keep,
            model.outputs,
            arguments.error_column,
            flat=out.suffix.lower() in FLAT,
        )
        if set(inputs.columns) - set(columns):
            _say(f"inputs: {inputs}")
        about = _about(arguments.input)
        job = {
            "input file": about,
            "model": model.name,
            "version": model.version,
            "choice of columns": {name: list(parts) for name, parts in inputs.columns.items()},
            "choice of outputs": list(layout.names),
        }
        with Journal(out.with_name(f"{out.name}.part"), job, restart=arguments.restart) as journal:
            before, began = journal.rows, time.monotonic()
            await _score(arguments, source, inputs, model, endpoint, journal)
            seconds = time.monotonic() - began
            if _about(arguments.input) != about:
                msg = (
                    f"{arguments.input}: changed while it was read, so nobody knows which rows "
                    "were scored; --restart begins anew"
                )
                raise ConfigError(msg)
            _tell_failures(journal)
            await asyncio.to_thread(assemble, out, source, journal, layout)
            journal.delete()
            return _Done(journal.rows, before, journal.failed, seconds)


def _about(path: Path) -> list[str | int]:
    """Return by what a file is known again."""
    found = path.stat()
    return [path.name, found.st_size, found.st_mtime_ns]


async def _score(
    arguments: argparse.Namespace,
    source: Source,
    inputs: Any,  # noqa: ANN401  # Inputs, of a module that is imported late
    model: Model,
    endpoint: Endpoint,
    journal: Journal,
) -> None:
    from jitney.cli.predict_progress import ScoringBar  # noqa: PLC0415
    from jitney.scoring.asking import Asker, BadReply, Wishes  # noqa: PLC0415  # numpy
    from jitney.scoring.scorer import BadRow, Pace, score  # noqa: PLC0415

    if journal.rows:
        _say(f"going on after {journal.rows:,} rows")
    cursor = await asyncio.to_thread(source.cursor, journal.rows, inputs.names)
    bar = ScoringBar(sys.stderr)
    bar.begin(cursor.fraction)
    asker = Asker(endpoint, model, Wishes(arguments.patience, arguments.priority))
    try:
        await score(
            cursor,
            inputs,
            model,
            asker,
            journal,
            pace=Pace(arguments.rows, arguments.concurrency),
            on_error=arguments.on_error,
            told=bar.show,
        )
    except (BadRow, BadReply) as error:
        raise CommandError(str(error)) from None
    finally:
        bar.clear()
        cursor.close()
        if sys.exception() is not None and journal.rows:
            _say(f"{journal.rows:,} rows are done and kept; the same command goes on from there")


@asynccontextmanager
async def _endpoint(arguments: argparse.Namespace) -> AsyncIterator[tuple[Endpoint, str]]:
    """Give where the model is, and what it is called there."""
    with connection.explained(arguments):
        if arguments.local is None:
            from jitney_client import AsyncClient  # noqa: PLC0415  # brings grpc and numpy along

            options = connection.client_options(arguments)
            async with AsyncClient(arguments.address, **options) as client:
                yield client, arguments.model
        else:
            from jitney.cli.local import local_model  # noqa: PLC0415  # a server's parts
            from jitney.config import load_settings  # noqa: PLC0415

            given = {path: value for path, value in vars(arguments).items() if "." in path}
            settings = load_settings(given, os.environ, arguments.config)
            async with local_model(
                arguments.model, arguments.local, settings, _say, arguments.timeout
            ) as model:
                yield model, model.name


def _tell_failures(journal: Journal) -> None:
    shown = 0
    for scored in journal.read():
        for row, reason in scored.errors.items():
            if shown == SHOWN:
                _say("...")
                return
            _say(f"row {scored.first + row}: {reason}")
            shown += 1


def _columns(given: list[str]) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for text in given:
        name, separator, value = text.partition("=")
        parts = _names(value)
        if not (name and separator and parts) or name in columns:
            msg = f"--column {text[:60]!r}: expected INPUT=COLUMN,COLUMN,..., each input once"
            raise ConfigError(msg)
        columns[name] = parts
    return columns


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
