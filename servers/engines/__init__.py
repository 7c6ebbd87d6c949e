"""The frameworks that run models, one module each; ``registry`` finds them."""
