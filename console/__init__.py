"""The `tidewire` command: its verbs, the live screen, and the runs of the whole line."""
