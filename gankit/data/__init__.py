"""Pictures and points to train on: folders, the built-in demo, stacked digits, and the base class of data sources.

Only `batches` and `inspection` import torch.
"""

from gankit.data.demo import Demo
from gankit.data.digits import StackedDigits
from gankit.data.folder import Folder
from gankit.data.source import Data, DataSource, Request

__all__ = ["Data", "DataSource", "Demo", "Folder", "Request", "StackedDigits"]
