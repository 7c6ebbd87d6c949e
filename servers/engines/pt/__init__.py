"""PyTorch: TorchScript, torch.export, and weights for a class, run without a copy of tensor data on a CPU."""

from __future__ import annotations

from tensorwire.servers.engines.pt.engine import ENGINE

__all__ = ["ENGINE"]
