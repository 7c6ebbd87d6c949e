"""A model in a process of its own, whose crash costs only its own requests; tensors are shared, not sent."""
