"""The messages of schema/golden: what our writer makes, what others may make, and what must be refused."""
