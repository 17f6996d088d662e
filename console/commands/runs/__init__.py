"""What `up` and `demo` share: a run of the whole line, from its set-up to its end."""
