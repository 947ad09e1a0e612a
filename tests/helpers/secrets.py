"""Secrets that tests plant in the environment, and the search for them in what was written."""

from pathlib import Path

import pyarrow.parquet as pq

SECRETS = {
    "SPN4CIR_API_KEY": "sk-planted-5pn4c1r-0123456789abcdef",
    "OPENAI_API_KEY": "sk-planted-0pena1-0123456789abcdef",
    "HF_TOKEN": "hf_planted0123456789abcdefghijklmnop",
    "HF_ENDPOINT_PASSWORD": "planted-mirror-0123456789",
    "HUGGING_FACE_HUB_TOKEN": "hf_planted-old-0123456789abcdefghijk",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED012345678",
    "AWS_SECRET_ACCESS_KEY": "planted/aws/0123456789abcdefghijklmnopqr",
    "AWS_SESSION_TOKEN": "planted-session-0123456789abcdefghijklmn",
}


def holders(folder: Path) -> list[tuple[str, str]]:
    """The files below a folder that contain a planted value, with the name of the value."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":  # compressed
            content = str(pq.read_table(path).to_pylist()).encode()
        found += [(str(path.relative_to(folder)), name) for name, value in SECRETS.items() if value.encode() in content]
    return found
