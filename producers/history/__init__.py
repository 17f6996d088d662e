"""Alpaca's history over REST, in the shape of the stream's messages."""
