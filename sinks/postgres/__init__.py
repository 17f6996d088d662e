"""Kafka -> PostgreSQL: market data, orders, positions, news; each record once, its offset with its rows.

app.py starts it; consumer.py follows the topics; batches.py and columns.py make COPY bytes of what it fetched
of the hot topics, records.py makes rows of the others; writer.py owns the transaction, store_columns.py and
store_records.py put the rows into it; isolate.py finds the rows that PostgreSQL refuses; outbox.py publishes
them as dead letters.
"""
