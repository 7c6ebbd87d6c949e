"""Arrow Flight: DoExchange of one record batch that is a view of the array."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from bench.peers.servers.roles import Call, main, ready
from bench.workload import Array

_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class _Echo(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        # All of it first, as a model needs it; sending while the client still sends can also stall both.
        table = reader.read_all()
        writer.begin(table.schema)
        for batch in table.to_batches():
            writer.write_batch(batch)


def serve(scheme: str, path: str) -> None:
    if scheme == "unix":
        location = f"grpc+unix://{path}"
        server = _Echo(location)
    else:
        server = _Echo("grpc://127.0.0.1:0")
        location = f"grpc://127.0.0.1:{server.port}"
    ready(location)
    server.serve()


def client(address: str, x: Array, way: str) -> Call:
    connected = flight.connect(address, generic_options=_UNLIMITED)

    def call(x: Array) -> Array:
        batch = pa.record_batch([pa.array(x.reshape(-1))], ["x"])
        writer, reader = connected.do_exchange(flight.FlightDescriptor.for_path("echo"))
        with writer:
            writer.begin(batch.schema)
            writer.write_batch(batch)
            writer.done_writing()
            column = reader.read_all().column(0)
        parts = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        found: Array = parts.to_numpy(zero_copy_only=True).reshape(x.shape)
        return found

    return call


if __name__ == "__main__":
    main(serve, client)
