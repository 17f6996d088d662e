"""Kafka record batches as columns: read whole by aiokafka, decoded whole by Polars."""

from tidewire.columns.blocks import Block, as_blocks, read_blocks, records_at
from tidewire.columns.decoder import Decoded, Decoder, Refused

__all__ = ["Block", "Decoded", "Decoder", "Refused", "as_blocks", "read_blocks", "records_at"]
