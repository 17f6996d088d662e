"""Trades and quotes folded by a small C library, where it could be built; elsewhere columns do all of it."""
