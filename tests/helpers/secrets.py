"""Secrets that tests plant in the environment, and the search for them in what was written."""

from pathlib import Path

import pyarrow.parquet as pq

# Joined, so that the search does not find this file.
_END = "0123456789abcdefghijklmnop"
SECRETS = {
    "SPN4CIR_API_KEY": f"sk-planted-5pn4c1r-{_END}",
    "OPENAI_API_KEY": f"sk-planted-0pena1-{_END}",
    "HF_TOKEN": f"hf_planted{_END}",
    "HF_ENDPOINT_PASSWORD": f"planted-mirror-{_END}",
    "HUGGING_FACE_HUB_TOKEN": f"hf_planted-old-{_END}",
    "AWS_ACCESS_KEY_ID": f"AKIAPLANTED{_END[:9]}",
    "AWS_SECRET_ACCESS_KEY": f"planted/aws/{_END}",
    "AWS_SESSION_TOKEN": f"planted-session-{_END}",
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
