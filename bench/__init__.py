"""Benchmarks: the codec and the transport beside the machine's floor, the original package and other formats.

``python -m bench`` runs all of it and ends with a table; ``pytest bench`` runs the pytest-benchmark tests.
"""
