"""Side-by-side measurements: ours and a reference in the same run, each in a process of its own."""
