"""Record batches decoded by a small C library, where it could be built; elsewhere Polars does all of it."""
