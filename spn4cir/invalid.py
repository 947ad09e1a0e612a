"""What is wrong with a file's content, in the words of the model that checked it."""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """The first of an error's problems, as `counts.queries: field required`; of the whole content without a place."""
    problem = error.errors()[0]
    return ": ".join(part for part in (".".join(map(str, problem["loc"])), problem["msg"].lower()) if part)
