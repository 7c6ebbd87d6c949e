"""Which version of which model answers a request, and what is known of how it did."""
