"""Where everything of a record store lies, and its tables as files; docs/formats/store.md says it for strangers."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seislatent.data.store_rows import WORDS
from seislatent.errors import SeislatentError

FORMAT, VERSION = "seislatent record store", 1
TYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16", "|S1")
"""Types of samples, by NumPy's names."""
ALIGNED = 16
"""Every record begins at a multiple of this many bytes."""
LARGEST = 1 << 31
"""A record of more samples is neither written nor read: a sparse file and one line of a table can claim any number."""
ARRAY_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
PLACE = {"offset": pa.int64(), "channels": pa.int32(), "samples": pa.int64(), "type": WORDS}
"""What the table says of each array of a record: columns `store_{array}_{...}`."""

_GROUP = 4096  # rows that are read together when one is asked for


def shard_folder(store: str | Path, number: int) -> Path:
    """Where a shard lies; only its number decides, never a text of a table."""
    return Path(store) / "shards" / f"{number:06d}"


def write_table(table: pa.Table, path: Path, about: Mapping[str, Any]) -> None:
    """A Parquet file with `about` as JSON under the key `seislatent`; it appears at once under its name."""
    told = json.dumps(about, default=str)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        table = table.replace_schema_metadata({"seislatent": told})
        pq.write_table(table, temporary, compression="zstd", row_group_size=_GROUP, write_page_checksum=True)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_table(path: Path) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """A Parquet file that `write_table` wrote, and its `about`.

    Raises:
        SeislatentError: it is missing, damaged, or none of ours.
    """
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise FileNotFoundError(path)
        file = pq.ParquetFile(path, page_checksum_verification=True)
        about = json.loads((file.schema_arrow.metadata or {}).get(b"seislatent", b"{}"))
    except FileNotFoundError as error:
        raise SeislatentError(f"{path} does not exist: a record store has it; it is written when preparing ends") from error
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        raise SeislatentError(f"{path} is damaged or no Parquet file ({_line(error)}): write the store again") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise SeislatentError(f"{path} belongs to no record store: give a folder that `seislatent prepare` wrote")
    if about.get("version") != VERSION:
        raise SeislatentError(f"{path} is of version {about.get('version')!r:.20}, this program reads version {VERSION}: update it")
    return file, about


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
