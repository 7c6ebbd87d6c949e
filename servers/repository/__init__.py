"""Models on disk: from what the user named to a loaded model."""
