"""The features of a symbol: a pure fold of batches into integer words, read out as a record."""
