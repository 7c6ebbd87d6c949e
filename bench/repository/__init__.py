"""Models that come and go while requests run."""
