"""A web server of a folder, with index pages; a test sets how it misbehaves."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["IndexServer"]


class IndexServer:
    """``asked``: the requests that came, as 'GET /path'. ``status``: answered to all of them, if not 200. ``cut``:
    bodies end after so many bytes. ``gate``: files wait for it halfway. ``answering``: every answer waits for it.
    ``page``: sent instead of index pages.
    """

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.cut: int | None = None
        self.page = b""
        self.gate = threading.Event()
        self.gate.set()
        self.answering = threading.Event()
        self.answering.set()
        site = self

        class Handler(SimpleHTTPRequestHandler):
            def do_HEAD(self) -> None:
                site.asked.append(f"HEAD {self.path}")
                site.answering.wait(60)
                if site.status != 200:
                    self.send_error(site.status)
                else:
                    super().do_HEAD()

            def do_GET(self) -> None:
                site.asked.append(f"GET {self.path}")
                site.answering.wait(60)
                if site.status != 200:
                    self.send_error(site.status)
                elif site.page and self.path.endswith("/"):
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html")
                    self.send_header("Content-Length", str(len(site.page)))
                    self.end_headers()
                    self.wfile.write(site.page)
                else:
                    super().do_GET()

            def copyfile(self, source: Any, outputfile: Any) -> None:
                data = source.read()
                if self.path.endswith("/"):
                    outputfile.write(data)
                    return
                if site.cut is not None:
                    outputfile.write(data[: site.cut])
                    return
                half = len(data) // 2
                outputfile.write(data[:half])
                outputfile.flush()
                site.gate.wait(60)
                outputfile.write(data[half:])

            def log_message(self, *_: Any) -> None:
                pass

        self._handler = partial(Handler, directory=str(folder))
        self.start(0)
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, port: int) -> None:
        """Listen, again after ``close`` with the port that it had."""
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.gate.set()
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()

    def fetched(self, suffix: str) -> int:
        """How often a file was asked for whose path ends so."""
        return sum(line.startswith("GET") and line.endswith(suffix) for line in self.asked)
