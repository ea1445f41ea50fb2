"""Published data: where the files are, and readers that check them against themselves.

Nothing here opens the network or imports a heavy package until `get` is called.
"""

from vbceval.data.download import DataFiles, get
from vbceval.data.mssp import MSSPResults, read_file, read_mssp
from vbceval.data.registry import DataSet, RemoteFile, datasets

__all__ = [
    "DataFiles",
    "DataSet",
    "MSSPResults",
    "RemoteFile",
    "datasets",
    "get",
    "read_file",
    "read_mssp",
]
