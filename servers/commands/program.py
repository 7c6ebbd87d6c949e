"""Running a command line: its exit code, and one line on standard error for a user's mistake."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import typer

from tensorwire.errors import TensorwireError
from tensorwire.servers.commands.values import UserError
from tensorwire.servers.log_writer import flush_logs

__all__ = ["run_program"]


def run_program(app: typer.Typer, name: str, args: Sequence[str] | None = None) -> int:
    """Run a program by its arguments (default: sys.argv[1:]); returns the exit code, 2 for a user's mistake."""
    try:
        command = typer.main.get_command(app)
        result = command.main(sys.argv[1:] if args is None else list(args), prog_name=name, standalone_mode=False)
        code = result if isinstance(result, int) else 0
        _leave_loads(code)
        return code
    except typer.TyperException as error:
        return _fail(name, error.format_message())
    except (UserError, TensorwireError, OSError) as error:
        return _fail(name, str(error))
    except (KeyboardInterrupt, typer.Abort):
        return 130


def _leave_loads(code: int) -> None:
    """End the process here when a model is still being loaded: a framework's own threads and destructors would meet an
    interpreter that is being taken apart.
    """
    loading = sys.modules.get("tensorwire.servers.repository.loading")  # not imported here: most commands do without
    if loading is not None and loading.unfinished():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _fail(name: str, message: str) -> int:
    flush_logs()
    print(f"{name}: " + " ".join(message.split()), file=sys.stderr)
    return 2
