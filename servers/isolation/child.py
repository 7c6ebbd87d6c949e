"""The process of a model: loads it, answers calls in as many threads as it allows, ends with its server.

Started as ``python -m tensorwire.servers.isolation.child SOCKET PARENT``, with the number of a stream socket, on which
the target comes and the description goes, and the process that must not be outlived.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import resource
import signal
import socket
import sys
import threading

from tensorwire.servers.isolation.calls import Calls
from tensorwire.servers.isolation.description import describe
from tensorwire.servers.isolation.packets import receive_parts, send_parts
from tensorwire.servers.isolation.target import Target, read_target
from tensorwire.servers.model import Model, ModelError
from tensorwire.servers.repository.local import open_model

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MOST_DESCRIPTORS = 253  # of one message: SCM_MAX_FD of the kernel


def main() -> None:
    """Never returns: the process ends when the server closes the socket, or ends."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _die_with(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's business
    faulthandler.enable()
    # Not the service's warnings: the server checks results as well, and tells of them.
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("tensorwire.service").setLevel(logging.ERROR)
    code = 0
    try:
        model = _load(read_target(receive_parts(control)[0]))
        send_parts(control, [b"ready", *describe(model)])
        _serve(model, control)
        model.close()
    except (EOFError, BrokenPipeError):
        pass  # the server has gone, or does not want this model any more
    except ModelError as error:
        send_parts(control, [b"error", str(error).encode(errors="replace")])
    except BaseException as error:
        logging.getLogger(__name__).exception("the model cannot be served")
        text = " ".join(f"{type(error).__name__}: {error}".split())
        send_parts(control, [b"error", text.encode(errors="replace")])
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: threads of the model's must not keep the process alive.
        os._exit(code)


def _load(target: Target) -> Model:
    if target.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (target.memory, target.memory))
    sys.path[:] = target.modules
    model = open_model(target.path, engine=target.engine, options=target.options)
    if model.default_signature not in model.signatures:
        raise ModelError(f"{target.path}: the model has no signature {model.default_signature!r}")
    return model


def _serve(model: Model, control: socket.socket) -> None:
    """Answer calls until the server closes the stream."""
    for lane in _lanes(control, model.concurrency):
        calls = Calls(model, lane)
        threading.Thread(target=calls.serve, name=f"{model.name}-{lane.fileno()}", daemon=True).start()
    control.recv(1)


def _lanes(control: socket.socket, count: int) -> list[socket.socket]:
    """The sockets of as many calls at once."""
    found: list[socket.socket] = []
    while len(found) < count:
        data, fds, _, _ = socket.recv_fds(control, 1, min(count - len(found), _MOST_DESCRIPTORS))
        if not data:
            raise EOFError
        found += [socket.socket(fileno=fd) for fd in fds]
    return found


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main()
