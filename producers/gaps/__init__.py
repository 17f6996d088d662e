"""The gaps of one feed: noticed, told to alpaca.gaps, ended; and what was fetched for them, learned."""
