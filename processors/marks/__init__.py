"""Marks: the prices of held symbols, conflated, sent to the partitions of the accounts that hold them."""
