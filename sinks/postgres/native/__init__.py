"""Rows of COPY BINARY made by a small C library, where it could be built; elsewhere pgpq makes them."""
