"""Kafka record batches as columns: read whole by aiokafka, decoded whole by Polars.

`blocks` come from a consumer, a `decoder` makes `decoded` rows of them: by a `reader` a version, which gives
a `container` of plain `types` to Polars and proves what comes back, or by `sift` where something is broken.
"""

from tidewire.columns.blocks import Block, as_blocks, read_blocks, records_at
from tidewire.columns.decoded import Decoded, Refused
from tidewire.columns.decoder import Decoder
from tidewire.columns.native.reader import Bare
from tidewire.columns.versions import Version

__all__ = [
    "Bare",
    "Block",
    "Decoded",
    "Decoder",
    "Refused",
    "Version",
    "as_blocks",
    "read_blocks",
    "records_at",
]
