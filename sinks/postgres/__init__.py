"""Kafka -> PostgreSQL: trades, quotes and bars, each record once, its offset in the same transaction.

app.py starts it; consumer.py follows the topics; batches.py and columns.py make COPY bytes of what it
fetched; writer.py owns the transaction; isolate.py finds the rows that PostgreSQL refuses; outbox.py
publishes them as dead letters.
"""
