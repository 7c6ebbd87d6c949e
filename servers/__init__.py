"""Model servers on top of the wire: models, the frameworks that run them, the protocols they speak."""
