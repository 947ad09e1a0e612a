"""Reading, decoding, cropping and preprocessing of images."""
