"""The method's first idea: unique images, captions, matches and generated triplets."""
