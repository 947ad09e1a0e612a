"""A toy family: an image is its mean colour, a text the sum of its words' vectors."""

from zlib import crc32

import torch
import torch.nn.functional as F
from torch import nn

from spn4cir.composers.base import ComposerModule
from spn4cir.composers.protocol import ImageFeatures
from spn4cir.images.preprocess import Preprocess


class ToyComposer(ComposerModule):
    """An image's mean colour and a text's words, each as a vector; stage 2 trains the vectors of the words."""

    family = "toy"
    frozen = ("colour",)
    max_tokens = 32

    def __init__(self):
        super().__init__()
        self.preprocess = Preprocess(16)
        self.colour = nn.Linear(3, 8)
        self.words = nn.Embedding(64, 8)

    def encode_image(self, images):
        features = self.colour(images.mean(dim=(2, 3)))
        return ImageFeatures(features, F.normalize(features.float(), dim=-1))

    def compose(self, reference, texts):
        rows = [[crc32(word.encode()) % 64 for word in text.split()[: self.max_tokens]] for text in texts]
        said = torch.stack([self.words.weight[row].sum(dim=0) for row in rows])
        return F.normalize(reference.float() + said.float(), dim=-1)

    def count_tokens(self, text):
        return len(text.split())
