"""Signed POSTs of other senders -> the topics that the streams write to."""
