"""Composition by a fixed rule over the features of a CLIP network, without training: the zero-shot baselines."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from open_clip.model import CLIP
from torch import Tensor

from spn4cir.composers.clip import AdditionComposer
from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.images.preprocess import Preprocess

COMPOSITIONS = ("sum", "text", "image", "slerp")
_A = {"image": "an image", "text": "a text"}


class RuleComposer(AdditionComposer):
    """Composes the features of any open_clip CLIP network by a rule.

    With the image feature r and the text feature t, and their unit vectors r' = r / |r| and t' = t / |t|, the query is

    - `sum`: (r + t) / |r + t|, as family `clip` composes it. The longer of the two features weighs more.
    - `text`: t'; the image has no effect.
    - `image`: r'; the text has no effect.
    - `slerp`: the midpoint of the arc between r' and t' on the unit sphere. Spherical linear interpolation is
      slerp(r', t', a) = sin((1 - a) w) / sin(w) r' + sin(a w) / sin(w) t' with the angle w between r' and t'. At
      a = 1/2 both weights are 1 / (2 cos(w / 2)), so the midpoint is (r' + t') / |r' + t'|: both weigh the same.
      Source: Jang et al., "Spherical Linear Interpolation and Text-Anchoring for Zero-shot Composed Image Retrieval",
      ECCV 2024, arXiv 2405.00571.

    Args:
        network: an open_clip CLIP model; other activations than quick GELU and other image towers are allowed.
        preprocess: converts a decoded image to the network's input.
        composition: the rule.

    Raises:
        InputError: the rule is unknown.
    """

    def __init__(self, network: CLIP, preprocess: Preprocess, composition: str) -> None:
        if composition not in COMPOSITIONS:
            raise InputError(f"composition '{composition}' is not known; choose one of: {', '.join(COMPOSITIONS)}")
        super().__init__(network, preprocess.size)
        self.preprocess = preprocess
        self.composition = composition

    def compose(self, reference: Float[Tensor, "batch dim"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns unit-norm queries by the rule; the text tower does not run for `image`."""
        if self.composition == "sum":
            return super().compose(reference, texts)
        image = F.normalize(reference.float(), dim=-1)
        if self.composition == "image":
            return image
        text = F.normalize(self.clip.encode_text(self.tokens(texts, reference.device)).float(), dim=-1)
        return text if self.composition == "text" else F.normalize(image + text, dim=-1)


def compose_by(composer: Composer, composition: str) -> RuleComposer:
    """Returns a composer of the same network with a rule; the two share their weights.

    Raises InputError for an unknown rule, and for a family that does not compose by addition over CLIP.
    """
    if not isinstance(composer, AdditionComposer):
        raise InputError(
            f"a composition by rule ({', '.join(COMPOSITIONS)}) is for networks of family 'clip': family "
            f"'{composer.family}' composes with layers of its own; leave out --composition and --baselines"
        )
    return RuleComposer(composer.clip, composer.preprocess, composition).eval()


def require_parts(composer: Composer, image: bool, text: bool) -> None:
    """Raises InputError for a query that lacks the only part that the composer's rule reads.

    Args:
        composer: composes the query.
        image: whether the query has an image.
        text: whether the query has a text.
    """
    rule = composition_of(composer)
    if (rule == "image" and not image) or (rule == "text" and not text):
        raise InputError(f"composition '{rule}' reads only the {rule}, and a query has none; give {_A[rule]}")


def composition_of(composer: Composer) -> str | None:
    """Returns the rule of a composer, or None if its family determines how it composes."""
    return composer.composition if isinstance(composer, RuleComposer) else None
