"""Completeness: what was sent, what the topics hold, what the tables folded, what PostgreSQL holds."""
