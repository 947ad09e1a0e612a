"""SPN4CIR: composed image retrieval with scaled positives and negatives.

Nothing is imported here, so that each pipeline stage depends on just the modules it names.
"""
