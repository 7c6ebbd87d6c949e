"""When a request runs: threads, queues and their limits."""
