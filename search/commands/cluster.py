"""`flopwise nodes` and `attach`: a running cluster, and a search on it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from search.commands.printing import AsJson, console, print_json, program

if TYPE_CHECKING:
    from search.cluster.node_report import NodeReport

Cluster = Annotated[
    Path | None, typer.Option(help="A cluster file: run this command on that cluster's head.")
]


def on_head(cluster: Path, words: list[str]) -> None:
    """Run a flopwise command on the head, with this checkout's code, and print its output."""
    from search.cluster.head import Head

    head = Head(cluster)
    head.send_code()
    typer.echo(head.ask("search.cli", words), nl=False)


def nodes(
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Show the nodes of a running Ray: trials, memory, CPU and GPU use.

    Without --cluster: the Ray that RAY_ADDRESS names, or else the one on this machine.
    """
    if cluster is not None:
        on_head(cluster, ["nodes", *(["--json"] if as_json else [])])
        return
    import ray

    from search.cluster.node_report import report_nodes
    from search.cluster.ray_session import join_cluster

    join_cluster()
    try:
        reports = report_nodes()
    finally:
        ray.shutdown()
    if as_json:
        print_json([asdict(report) for report in reports])
    else:
        console().print(nodes_table(reports))


def attach(
    study: Annotated[
        str | None, typer.Argument(help="The study's name. Without one: the latest search.")
    ] = None,
    cluster: Cluster = None,
) -> None:
    """Watch a search on a cluster. Ctrl-C ends the watching, not the search.

    Without --cluster: on the Ray that RAY_API_SERVER_ADDRESS names, or else on this machine.
    """
    if cluster is not None:
        from search.cluster.head import Head

        head = Head(cluster)
        head.send_code()
        head.watch("search.cli", ["attach", *([study] if study else [])])
        return
    from search.cluster.jobs import find_job, follow_job

    job = find_job(study)
    name = job.submission_id or ""
    screen = console()
    try:
        status = follow_job(name, lambda lines: typer.echo(lines, nl=False))
    except KeyboardInterrupt:
        screen.print(f"{name} keeps running; watch it again: {program()} attach", soft_wrap=True)
        raise typer.Exit(130) from None
    screen.print(f"{name}: {status.lower()}", soft_wrap=True)
    if status != "SUCCEEDED":
        raise typer.Exit(1)


def nodes_table(reports: "list[NodeReport]") -> Table:
    """A table with a row for each node."""
    searched = sorted({report.study for report in reports if report.study})
    table = Table(box=None, title=", ".join(searched) or None, title_justify="left")
    table.add_column("node")
    table.add_column("has")
    table.add_column("trials")
    for heading in ("CPU %", "memory GB", "GPU %", "GPU memory GB"):
        table.add_column(heading, justify="right")
    for report in reports:
        table.add_row(
            report.address,
            _what(report),
            "left out" if report.left_out else ", ".join(map(str, report.trials)) or "–",
            _percent(report.cpu_used),
            _of(report.memory_used_gb, report.memory_gb),
            _percent(report.gpu_used),
            _of(report.gpu_memory_used_gb, report.gpu_memory_gb),
        )
    return table


def _what(report: "NodeReport") -> str:
    parts = ["head"] if report.is_head else []
    if report.gpus:
        parts.append(f"{report.gpus:g} {report.gpu_kind or 'GPU'}")
    parts.append(f"{report.cpus:g} CPUs for trials")
    return ", ".join(parts)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"


def _of(used: float | None, total: float | None) -> str:
    return "–" if used is None or total is None else f"{used:.1f} of {total:.1f}"
