"""Search: the retriever and its index, the encoder, export of vectors, and the MTEB model."""
