"""Faust agents that handle record batches as Polars frames, and a table that is a matrix of integers."""
