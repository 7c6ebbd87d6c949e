"""What ``tensorwire doctor`` finds out: the host's floors, the builds in use, and what is off."""
