"""What every command that serves does before it serves, and what it says when it listens."""

from __future__ import annotations

import contextlib
import logging
import resource
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorwire.servers.commands.values import UserError, shown, spec_text
from tensorwire.servers.log_writer import LogWriter

if TYPE_CHECKING:
    from tensorwire.servers.app import App
    from tensorwire.servers.repository.config import RepositoryConfig

__all__ = ["banner", "base_path_config", "check_addresses", "raise_descriptor_limit", "set_up_logging"]

_MOST_NAMED = 10


def base_path_config(path: str, name: str, engine: str | None, options: Mapping[str, Any]) -> RepositoryConfig | None:
    """The configuration of one model with a base path, whose versions may still be to come; None for a path that is a
    model itself. Raises ConfigError.
    """
    from tensorwire.servers.engines.registry import is_model, is_reference
    from tensorwire.servers.repository.config_file import check_places
    from tensorwire.servers.repository.layout import numbered
    from tensorwire.servers.repository.source import is_remote, only_model

    base = Path(path).expanduser()
    if not is_remote(path) and (
        base.is_file() or is_reference(path) or (base.is_dir() and not numbered(base) and is_model(base))
    ):
        return None
    return check_places(only_model(path, name, engine, options))


def check_addresses(listen: Iterable[str], option: str = "--listen") -> None:
    """Raises UserError for an address that is none, before anything is loaded."""
    from tensorwire.servers.address import parse_address

    for address in listen:
        try:
            parse_address(address)
        except ValueError as error:
            raise UserError(f"{option}: {error}") from None


def raise_descriptor_limit() -> None:
    """As many descriptors as the system lets this process have: shells and systemd start with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def set_up_logging(level: int, access_log: bool) -> None:
    """Log to standard error from ``level`` on, with a line for each request when ``access_log`` is True."""
    try:
        handler: logging.Handler = LogWriter(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # something that is no file stands for it
        handler = logging.StreamHandler(sys.stderr)
    logging.basicConfig(handlers=[handler], level=level, format="%(asctime)s %(levelname)s %(message)s")
    if not access_log:
        logging.getLogger("tensorwire.access").setLevel(logging.WARNING)
    # It tells how many files have changed whenever some have; what became of that, the repository says.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def banner(app: App, remark: str = "") -> str:
    """Where it listens, what it serves, and where it is administered if not there, a line each."""
    where = f"listening on {' '.join(app.urls)} (Ctrl-C to stop)"
    if app.service.repository is not None:
        names = app.service.model_names
        if app.admin_urls:
            where += f"\nadministration on {' '.join(app.admin_urls)}"
        listed = ", ".join(map(shown, names[:_MOST_NAMED])) + (", ..." if len(names) > _MOST_NAMED else "")
        return f"{where}\nloading {listed or 'no models'}; {app.urls[0]}/v1/models tells how they are"
    metadata = app.service.metadata()
    inputs = ", ".join(spec_text(spec) for spec in metadata.inputs) or "anything"
    outputs = ", ".join(spec_text(spec) for spec in metadata.outputs) or "anything"
    engine = ", ".join(filter(None, [app.service.models[0].engine, remark]))
    about = f"{shown(metadata.name)} ({engine})"
    return f"{where}\nserving {about}: {inputs} -> {outputs}"
