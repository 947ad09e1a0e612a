"""What is sent to a served model, and what it answers."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

# Longest side of an image that is sent, in pixels, and its JPEG quality.
LONGEST_SIDE, QUALITY = 768, 90
_PLAIN = 224  # side of a plain image; some models refuse smaller ones
_ORIENTATION = 0x0112  # tag of EXIF, which servers apply and this package does not
_PNG = b"\x89PNG"


@dataclass(frozen=True)
class ChatRequest:
    """One question to a served model; the answer depends on nothing else.

    Attributes:
        prompt: the text of the message.
        images: JPEG or PNG files, which precede the text in the message.
        temperature: sampling temperature; at 0 the most probable token is always taken.
        seed: seed of the sampling, for servers that honour it.
        max_tokens: largest number of tokens of the answer.
        top_logprobs: number of candidates of the answer's first token whose log probabilities are returned; 0: none.
    """

    prompt: str
    images: tuple[bytes, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 64
    top_logprobs: int = 0

    def body(self, model: str) -> dict[str, Any]:
        """Returns the arguments of a chat completion."""
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(i)}} for i in self.images]
        content = [*parts, {"type": "text", "text": self.prompt}] if parts else self.prompt
        wanted = {"logprobs": True, "top_logprobs": self.top_logprobs} if self.top_logprobs else {}
        return {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        } | wanted


@dataclass(frozen=True)
class ChatAnswer:
    """The answer of a served model.

    Attributes:
        text: the text; empty if the model wrote none.
        finish: why the text ends, as in `stop`; `length`: it was cut at `max_tokens`.
        first_token: natural log probabilities of candidates of the first token, by the token's text; empty unless
            `top_logprobs` asked for them.
    """

    text: str
    finish: str = "stop"
    first_token: Mapping[str, float] = field(default_factory=dict)


def plain(request: ChatRequest) -> ChatRequest:
    """Returns a short request of the same form: a grey image in place of each, and a word as the answer."""
    grey = jpeg(Image.new("RGB", (_PLAIN, _PLAIN), (128, 128, 128)))
    return ChatRequest("Answer yes.", (grey,) * len(request.images), max_tokens=1)


def jpeg(image: Image.Image) -> bytes:
    """Encodes an RGB image as JPEG; its longest side is reduced to at most 768 pixels."""
    small = image.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    stream = BytesIO()
    small.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def exact(image: Image.Image, read: Callable[[], bytes]) -> bytes:
    """Encodes an RGB image so that a server decodes the same pixels; one of a side above 768 pixels as `jpeg`.

    Args:
        image: the image, as it was decoded from a file.
        read: returns the bytes of the file. They are sent unchanged if they are a JPEG file that a server decodes
            alike: without an EXIF orientation. Other images are encoded as PNG.
    """
    if max(image.size) > LONGEST_SIDE:
        return jpeg(image)
    if image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) == 1:
        return read()
    plain, stream = image.copy(), BytesIO()
    plain.info.clear()
    plain.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def read_answer(completion: Any) -> ChatAnswer | None:
    """Returns the answer of a chat completion; None if the server sent something else.

    Args:
        completion: what the client returns. It does not check what it has read.
    """
    try:
        choice = completion.choices[0]
        tokens = getattr(choice.logprobs, "content", None) or ()
        first = {str(each.token): float(each.logprob) for each in tokens[0].top_logprobs} if tokens else {}
        content = choice.message.content or ""
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        # A half of a surrogate pair, which JSON may contain, is in no UTF-8 file.
        return ChatAnswer(text.encode("utf-8", "replace").decode(), str(choice.finish_reason or "stop"), first)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def _data_url(file: bytes) -> str:
    kind = "png" if file.startswith(_PNG) else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"
