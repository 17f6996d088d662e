"""A local Alpaca: the stock WebSocket and its REST, fed from recorded ticks or a synthetic market."""
