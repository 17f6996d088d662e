"""The verbs of the command: one file a verb, and what several of them share."""
