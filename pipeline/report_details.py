"""What the data report shows beyond the metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from adaptiverec.pipeline.contract import POPULARITY
from adaptiverec.pipeline.output_files import Places

__all__ = ["report_details"]


def report_details(summary: dict[str, Any], places: Places) -> dict[str, Any]:
    """Collects the details.

    Args:
        summary: What the job wrote for the driver.
        places: Where the run works.

    Returns:
        ``sequence_lengths``, users by length; ``activity``, None or a dict of
        ``bin_seconds`` and ``bins``, interactions by bin; ``popularity``, int64 of shape
        [num_items], descending; ``rejected_examples``, rows by reason.
    """
    activity = None
    if summary["activity"] is not None:
        bin_seconds, bins = summary["activity"]
        activity = {"bin_seconds": bin_seconds, "bins": dict(bins)}
    return {
        "sequence_lengths": dict(summary["sequence_lengths"]),
        "activity": activity,
        "popularity": _popularity(places),
        "rejected_examples": summary["examples"],
    }


def _popularity(places: Places) -> np.ndarray:
    path = FileSystems.join(places.output, POPULARITY)
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        table = pa.csv.read_csv(
            pa.PythonFile(file, "r"),
            parse_options=pa.csv.ParseOptions(
                delimiter="\t", quote_char=False, double_quote=False
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=["interactions"],
                column_types={"interactions": pa.int64()},
            ),
        )
    return np.sort(table.column("interactions").to_numpy())[::-1]
