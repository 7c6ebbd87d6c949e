"""The load generator of ``tensorwire bench``: what to send, who sends it, and what is counted."""
