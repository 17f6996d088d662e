"""One frame to many sockets by a small C library, where it could be built; elsewhere os.write does it."""
