"""Serve a model with one call; the server itself is loaded when it is first used."""

from __future__ import annotations

from typing import Any

__all__ = ["serve"]


def serve(model: object, *, listen: str = "127.0.0.1:9000", **options: Any) -> None:
    """Serve a model until the process is told to stop (SIGTERM or SIGINT); blocks until then.

    ``model`` is a callable from a dict of input arrays to a dict of output arrays, or from arrays where its
    annotations or tensorwire.servers.declare say so; a class or object with such a method ``predict``; the path of a
    model; or a tensorwire.servers.model.Model. ``listen`` is "host:port" or "unix:/path/to.sock"; the other options
    are those of tensorwire.servers.app.serve_model. Raises ImportError when the server's requirements are
    not installed.
    """
    try:
        from tensorwire.servers.app import serve_model
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "tensorwire" and error.name not in ("tensorwire.servers", "tensorwire.servers.app"):
            raise
        text = "tensorwire.serve needs the server extra: pip install 'tensorwire[serve]'"
        raise ImportError(text, name=error.name) from error
    serve_model(model, listen=listen, **options)
