"""The model of section `machine` of `params.yaml`: how the stages run, which does not affect their results."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from spn4cir.config.base import Positive, Settings

# The path of chat completions, below the base URL.
_PATH = "/chat/completions"


def url_fault(url: str) -> str:
    """Returns why a text is no base URL of a server; empty if it is one."""
    expected = "expected a URL as in http://127.0.0.1:8000/v1; an API key is read from SPN4CIR_API_KEY"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises ValueError for a wrong port
    except ValueError:
        return expected
    host, _, port = parts.netloc.rpartition(":")
    no_port = bool(host) and "]" not in port and not port
    known = parts.scheme in ("http", "https") and bool(parts.hostname)
    return "" if known and not no_port and "@" not in parts.netloc and not {"?", "#"} & set(url) else expected


def _base_url(url: str) -> str:
    if fault := url_fault(url):
        raise ValueError(fault)
    if url.rstrip("/").endswith(_PATH):
        raise ValueError(f"expected the URL before {_PATH}, which is added to it")
    return url


def _no_text(urls: Any) -> Any:
    if isinstance(urls, str):
        raise ValueError("expected a list, with one URL a line, as in - http://127.0.0.1:8000/v1")
    return urls


Endpoint = Annotated[str, AfterValidator(_base_url)]


def _each_once(urls: tuple[str, ...]) -> tuple[str, ...]:
    if twice := next((url for url in urls if urls.count(url) > 1), None):
        raise ValueError(f"{twice} is listed {urls.count(twice)} times; list it once")
    return urls


Endpoints = Annotated[tuple[Endpoint, ...], BeforeValidator(_no_text), Field(min_length=1), AfterValidator(_each_once)]


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:[0-9]+)?", name):
        raise ValueError("expected auto, cpu, cuda (mps, xpu), or one of several as in cuda:0")
    return name


def _ray_address(address: str) -> str:
    if address.startswith("ray://"):
        raise ValueError("Ray Data does not work through ray://; run on a machine of the cluster, with address auto")
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdecimal()):
        raise ValueError("expected auto, HOST:PORT, or null for a Ray that is started on this machine")
    return address


class RaySettings(Settings):
    """The Ray cluster and the resources of a worker.

    `address` is `auto` or `HOST:PORT`; null starts Ray on this machine. `gpus_per_worker` applies to workers with a
    network; below 1, several of them share a GPU.
    """

    address: Annotated[str, AfterValidator(_ray_address)] | None
    cpus_per_worker: Positive
    gpus_per_worker: Annotated[float, Field(ge=0, le=1)]


class Machine(Settings):
    """The device, the workers that decode and encode images, and the servers of language models.

    They do not affect results, so no stage depends on them. `devices` lists the numbers of the GPUs of which each run
    takes a free one; null uses `device`. `workers` is the number of processes of engine `local`, and `ray` describes
    the cluster of engine `ray`. `endpoints` maps names to base URLs that serve one model; `concurrency` is the number
    of unanswered requests to an endpoint. `processes` is the number of processes of a training on each machine, and
    `launch` a command that starts them on several machines. `shard_bank` says whether each of them holds only its rows
    of the bank's targets.
    """

    device: Annotated[str, AfterValidator(_device)]
    devices: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None
    workers: Annotated[int, Field(ge=0)]
    engine: Literal["local", "ray"]
    ray: RaySettings | None
    endpoints: dict[str, Endpoints]
    concurrency: Positive
    processes: Positive
    launch: Annotated[str, Field(min_length=1)] | None
    shard_bank: Literal["auto", "always", "never"]

    @model_validator(mode="after")
    def _devices_fit_the_device(self) -> "Machine":
        if self.devices is None:
            return self
        if len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices {list(self.devices)} lists a GPU twice; list it once")
        if self.device.startswith("cuda:"):
            raise ValueError(
                f"device is '{self.device}' and devices lists GPUs; set device to auto or cuda, or devices to null"
            )
        return self

    @model_validator(mode="after")
    def _each_process_has_a_device(self) -> Self:
        if self.processes > 1 and ":" in self.device:
            raise ValueError(f"device is '{self.device}' and processes is {self.processes}; set device to auto or cuda")
        return self

    @model_validator(mode="after")
    def _cluster_is_described(self) -> Self:
        if self.engine == "ray" and self.ray is None:
            example = "{address: auto, cpus_per_worker: 1, gpus_per_worker: 0}"
            raise ValueError(f"engine ray needs the key ray, as in ray: {example}")
        return self


def unknown_endpoint(machine: Machine, endpoint: str, key: str) -> str:
    """Returns the message for an endpoint that the settings do not define; empty if they do.

    Args:
        machine: the settings with the endpoints.
        endpoint: name of the endpoint.
        key: the setting that names the endpoint.
    """
    if endpoint in machine.endpoints:
        return ""
    known = ", ".join(machine.endpoints) or "none"
    return (
        f"{key}: '{endpoint}' is not in machine.endpoints (known: {known}); add it there, "
        "with one URL a line, as in - http://127.0.0.1:8000/v1"
    )
