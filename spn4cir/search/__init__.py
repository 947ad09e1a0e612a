"""Search: the retriever, its index, the encoder, vector export and the MTEB model."""
