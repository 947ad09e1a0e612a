"""The settings of the stages dedup, caption, match, triplets and filter, which make positives."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from spn4cir.config.base import FromHub, HubFile, Origin, Positive, Published, Settings


def _whole_ranks(window: Any) -> Any:
    """Converts ranks that are written as floats (`-S ...=[1e4,2e4]`) to integers; shares, at most 1, are unchanged."""
    if isinstance(window, list | tuple) and all(isinstance(end, float) and end.is_integer() for end in window):
        return [int(end) for end in window] if max(window, default=0) > 1 else window
    return window


Window = Annotated[
    tuple[int, int] | tuple[float, float],
    BeforeValidator(_whole_ranks),
    Field(description="[lo, hi): whole numbers are similarity ranks (rank 0 is the image itself), others shares"),
]


class Dedup(Published):
    """Settings of the unique images."""


class Caption(FromHub):
    """Settings of captioning by a multi-modal LLM.

    `words` maps each family to the word count of the captions that its triplets use. `pool` does so for families that
    use captions of the data set's pool instead of its own images. `hub` is a folder of published files.
    """

    _hub_is_file: ClassVar[bool] = False

    source: Origin
    hub: str | None
    images: Literal["split", "triplets"]
    prompt: str
    words: dict[str, Positive]
    pool: dict[str, Positive]
    batch_size: Positive
    max_new_tokens: Positive
    dtype: Literal["auto", "float32", "float16", "bfloat16"]
    quantization: Literal["none", "8bit", "4bit"]

    @model_validator(mode="after")
    def _families_read_one_kind(self) -> "Caption":
        if both := self.words.keys() & self.pool.keys():
            raise ValueError(f"'{min(both)}' is in words and in pool; a family reads captions of one of the two")
        return self

    @model_validator(mode="after")
    def _prompt_has_fields(self) -> "Caption":
        if "{words}" not in self.prompt:
            raise ValueError("prompt lacks the field {words}; add it")
        try:
            self.prompt.format(words=1, noun="image")
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"prompt can have only the fields {{noun}} and {{words}}, got {error}") from None
        return self


class Match(Settings):
    """Settings of partners. `window` maps families to similarity ranks or shares of the images; null is any image."""

    window: Annotated[dict[str, Window | None], Field(min_length=1)]
    partners: Positive
    batch_size: Positive

    @model_validator(mode="after")
    def _windows_are_ranges(self) -> "Match":
        for family, window in self.window.items():
            if window is None:
                continue
            if isinstance(window[1], float) and not 0 <= window[0] < window[1] <= 1:
                raise ValueError(f"window.{family} of shares is [lo, hi) with 0 <= lo < hi <= 1, got {list(window)}")
            if isinstance(window[1], int) and not 1 <= window[0] < window[1]:
                raise ValueError(f"window.{family} is [lo, hi) with 1 <= lo < hi, got {list(window)}")
        return self


class Llm(Settings):
    """Settings of a language model that writes modification texts.

    `served` is a name in `machine.endpoints`, and `model` the model's name there. `prompt` is a template with the
    fields {reference} and {target}, the captions; with `sees: images`, the images precede the prompt, and the fields
    are optional. `max_tokens` is the largest number of tokens of an answer.
    """

    served: str
    model: str
    sees: Literal["captions", "images"]
    prompt: str
    temperature: Annotated[float, Field(ge=0, le=2)]
    max_tokens: Positive

    @model_validator(mode="after")
    def _prompt_has_fields(self) -> "Llm":
        try:
            filled = [self.prompt.format(reference=first, target=second) for first, second in ("xy", "zy", "xz")]
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"prompt can have only the fields {{reference}} and {{target}}, got {error}") from None
        if self.sees == "captions" and len(set(filled)) < len(filled):
            raise ValueError("with sees captions, prompt should be a text with both fields {reference} and {target}")
        return self


class Triplets(FromHub):
    """Settings of generated triplets; `sample` is the number of triplets that are kept at random, null keeps all.

    With the source `none`, no triplets are generated. `writer` says whether the texts are those of `templates`, or one
    for each of them by a language model, `llm`.
    """

    source: Origin | Literal["none"]
    hub: HubFile | None
    refer: bool
    templates: Annotated[tuple[Annotated[int, Field(ge=0, le=3)], ...], Field(min_length=1)]
    sample: Positive | None
    max_tokens: Positive
    writer: Literal["templates", "llm"]
    llm: Llm | None

    @model_validator(mode="after")
    def _llm_is_described(self) -> "Triplets":
        if self.writer == "llm" and self.llm is None:
            raise ValueError("writer llm needs llm: {served, model, sees, prompt, temperature, max_tokens}")
        if self.writer == "llm" and self.source in ("path", "hub"):
            raise ValueError(f"writer llm writes no texts of published triplets; set source {self.source} to make")
        return self


class Filter(Settings):
    """Settings of the filter of generated triplets; null switches a condition off.

    A text is kept if stage 1 finds its target among the first `target_within` images, and if the text without the
    reference does not find it among the first `text_within`.
    """

    target_within: Positive | None
    text_within: Positive | None

    @property
    def enabled(self) -> bool:
        """Whether one of the conditions is set."""
        return self.target_within is not None or self.text_within is not None
