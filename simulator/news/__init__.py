"""The news venue: articles and their revisions, each one message whatever the number of its symbols."""
