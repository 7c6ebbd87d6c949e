"""``tensorwire bench``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tensorwire import Client, EncodeError, Metadata, RemoteError, Request, encode
from tensorwire.servers.commands.arrays import read_inputs
from tensorwire.servers.commands.credentials import Ca, Cert, Key, TokenFile, client_options
from tensorwire.servers.commands.values import UserError, connect, dtype_text, shape_text, shown
from tensorwire.servers.loadgen.plan import Plan, Progress
from tensorwire.servers.loadgen.summary import Summary

EXAMPLES = """Examples:

    tensorwire bench http://127.0.0.1:9000

    tensorwire bench http://127.0.0.1:9000 --batch 32 --concurrency 8 --duration 30

    tensorwire bench http://127.0.0.1:9000 --rate 2000 --plot latency.png --json -

    tensorwire bench unix:///run/model.sock --input image=digits.npy

    tensorwire bench http://127.0.0.1:9000 --shape image=1,3,224,224
"""

_CLOSED, _OPEN = 16, 64  # connections, unless --concurrency says how many


def bench(
    url: Annotated[str, typer.Argument(metavar="URL", help="Server: http://host:port, https://... or unix:///path.")],
    input: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="[NAME=]FILE.npy", help="Send this tensor; may be repeated."),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]N,N,...", help="Shape of a random input; may be repeated."),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=0, metavar="N", help="Size of a free first dimension; other free ones are 1.")
    ] = 1,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=10_000,
            metavar="N",
            help="Connections, each with one request under way. Default: 16, or 64 with --rate.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            "-r",
            min=0.001,
            metavar="R",
            show_default=False,
            help="Send R requests a second by the clock (open loop); latencies count from when each was due. "
            "Default: each connection sends when it has its answer (closed loop).",
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", "-d", min=0.01, metavar="SECONDS", help="Time that is measured.")
    ] = 10.0,
    warmup: Annotated[
        float, typer.Option("--warmup", "-w", min=0.0, metavar="SECONDS", help="Time before, not measured.")
    ] = 1.0,
    timeout: Annotated[float, typer.Option(min=0.001, metavar="SECONDS", help="Longest wait for an answer.")] = 10.0,
    processes: Annotated[
        int,
        typer.Option(min=1, max=256, metavar="N", help="Processes that send; one manages tens of thousands a second."),
    ] = 1,
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON; -: to standard output.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the latency distribution (.png, .svg or .pdf).")
    ] = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Measure a server under load: requests/s, MB/s, latencies, errors.

    Inputs are random, of the dtypes and shapes that the model declares, unless --input gives them. Exit code 1
    when not one request was answered without an error.
    """
    from tensorwire.servers.commands.bench_report import print_report, write_json
    from tensorwire.servers.loadgen.crew import generate

    _check_files(json, plot)
    connections = concurrency or (_OPEN if rate else _CLOSED)
    if connections < processes:
        raise UserError(f"--processes {processes}: there are only {connections} connections (--concurrency)")
    options = client_options(ca, cert, key, token_file)
    with connect(url, timeout, **options) as client:
        metadata, request = _ask(client, input or [], _shapes(shape or []), batch)
    nbytes = encode(request).nbytes
    plan = Plan(url, connections, rate or 0.0, duration, warmup, timeout, options=options)
    with _progress(plan) as progress:
        tally = generate(plan, request, processes=processes, progress=progress)
    arrays = request.inputs.arrays
    names = request.inputs.names or ("",) * len(arrays)
    inputs = tuple(
        f"{shown(name)} {dtype_text(x.dtype)} {shape_text(x.shape)}".strip()
        for name, x in zip(names, arrays, strict=True)
    )
    summary = Summary(plan, inputs, shown(metadata.name), shown(metadata.server), nbytes, processes, tally)
    if json is not None:
        write_json(summary, json)
    if json != "-":
        print_report(summary)
    if plot is not None:
        from tensorwire.servers.loadgen.plot import plot as draw

        draw(summary, plot)
    if not tally.requests:
        raise typer.Exit(1)


def _check_files(json: str | None, plot: Path | None) -> None:
    """Mistakes are told before the run, not after it."""
    for path in (None if json in (None, "-") else Path(str(json)), plot):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"no such folder: {path.parent}")
    if plot is None:
        return
    if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UserError(f"--plot: {plot} does not end in .png, .svg or .pdf")
    try:
        from tensorwire.servers.loadgen.plot import load_plotter

        load_plotter()
    except ModuleNotFoundError:
        raise UserError("--plot needs matplotlib: pip install 'tensorwire[plot]'") from None


def _shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        try:
            shape = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            shape = (-1,)
        if min(shape) < 0:
            raise UserError(f"--shape: {text!r} is not NAME=N,N,...")
        if name in found:
            raise UserError(f"--shape of {name or 'an input without a name'} is given twice")
        found[name] = shape
    return found


def _ask(client: Client, files: list[str], shapes: dict[str, tuple[int, ...]], batch: int) -> tuple[Metadata, Request]:
    """What the model is, and a request that it takes: it is sent once, so that a mistake is told now."""
    from tensorwire.servers.loadgen.inputs import random_inputs

    if files and shapes:
        raise UserError("--shape is for random inputs; --input gives a tensor with its shape")
    given = read_inputs(files) if files else None
    metadata = client.metadata()
    known = {spec.name for spec in metadata.inputs} | {""}
    for name in shapes:
        if metadata.inputs and name not in known:
            raise UserError(f"--shape: the model has no input {name!r}")
    try:
        request = Request(random_inputs(metadata.inputs, batch, shapes) if given is None else given)
        encode(request)
    except (EncodeError, MemoryError, ValueError) as error:
        raise UserError(f"the request cannot be made: {error}") from None
    try:
        client.send(request)
    except RemoteError as error:
        if error.code < 500:  # else the load may be what makes it fail: that is counted
            raise
    return metadata, request


@contextmanager
def _progress(plan: Plan) -> Iterator[Progress | None]:
    """A line on standard error that lives as long as the run, when a person is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("warm-up", total=plan.warmup + plan.duration, told="")
        before = (0.0, 0)

        def progress(elapsed: float, answered: int, failed: int) -> None:
            nonlocal before
            rate = (answered - before[1]) / max(elapsed - before[0], 1e-9)
            before = (elapsed, answered)
            told = f"{rate:,.0f} requests/s, {answered:,} answered" + (f", {failed:,} failed" if failed else "")
            description = "warm-up" if elapsed < plan.warmup else "measuring"
            bar.update(task, completed=elapsed, description=description, told=told, refresh=True)

        yield progress
