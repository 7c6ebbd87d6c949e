"""Fronts: one file per protocol that a server answers, all of them on the same port.

- graphpipe.py: the fast path, flatbuffer requests received and answered without copying tensors
- wire.py: what all ways to receive one share: which requests are the wire's, results and errors as frames
- pages.py: everything else, as a Starlette app: metadata as JSON, health
- models.py, target.py: the models, their states, and the URLs that name them
- render.py: values as JSON
- upload.py: flatbuffers that the app receives, such as chunked ones
- body.py: how such a body is collected
- handover.py: how a connection gets from the fast path to the app
- limits.py: what a connection may use, bytes and seconds
- tls_connection.py: connections over TLS
- access.py: the access log
"""
