"""Kafka record batches as columns: read whole by aiokafka, decoded whole by Polars."""

from tidewire.columns.blocks import Block, as_blocks, read_blocks, records_at
from tidewire.columns.decoded import Decoded, Refused
from tidewire.columns.decoder import Decoder
from tidewire.columns.versions import Version

__all__ = ["Block", "Decoded", "Decoder", "Refused", "Version", "as_blocks", "read_blocks", "records_at"]
