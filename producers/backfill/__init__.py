"""What was missed comes back: gaps of alpaca.gaps -> history over REST -> what the log lacks of it."""
