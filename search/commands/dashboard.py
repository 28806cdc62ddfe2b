"""Serves optuna-dashboard for a run, read-only."""

from collections.abc import Callable
from pathlib import Path

from analysis.runs import read_run
from search.storage.optuna_storage import open_to_read
from spaces.errors import UserError

_HOST = "127.0.0.1"


def serve_dashboard(run: Path, port: int, *, tell: Callable[[str], None]) -> None:
    """Serve a run's study to this machine's browsers until Ctrl-C. tell: called with the address.

    Raises UserError where the run has no study, optuna-dashboard is not installed, or the port is
    taken.
    """
    read_run(run)  # raises UserError where the folder is not a run
    storage = open_to_read(run)
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise UserError(
            "optuna-dashboard is not installed: pip install 'flopwise[dashboard]'"
        ) from None
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Write nothing: a line for every request would bury the address."""

    try:
        server = make_server(_HOST, port, wsgi(storage), handler_class=Quiet)
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}; choose another with --port") from None
    with server:
        tell(f"http://{_HOST}:{port}")
        server.serve_forever()
