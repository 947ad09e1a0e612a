"""A bank without images, for tests of code that only reads its rows."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from spn4cir.training.bank import Bank
from spn4cir.training.reference_rows import StoredReferences

_FOLDER = TemporaryDirectory()  # removed when the process ends
_NUMBERS = count()


def stored_bank(reference: Tensor, dtype: str = "float32") -> Bank:
    """Makes a bank: image `i{row}` has that row of `reference`, and as its target the row at unit norm."""
    path = Path(_FOLDER.name) / f"{next(_NUMBERS)}.npy"
    np.save(path, reference.numpy().astype(dtype))
    row = {f"i{row}": row for row in range(len(reference))}
    return Bank(StoredReferences(path, len(reference)), F.normalize(reference.flatten(1), dim=1), row)
