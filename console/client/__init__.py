"""Programs at the gateway: a stream that reconnects, and what its messages add up to."""
