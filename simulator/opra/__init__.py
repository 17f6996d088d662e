"""Options: a venue of its own whose prices follow the stocks'."""
