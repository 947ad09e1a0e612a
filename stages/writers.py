"""Registry of the writers of triplets beside the templates; a stage's code contains only the writer that is chosen."""

WRITERS = {
    "llm": "stages.llm_writer:LlmWriter",
}
