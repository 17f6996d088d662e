"""Frames of trades and quotes to records by a small C library, where it could be built; else by Python."""
