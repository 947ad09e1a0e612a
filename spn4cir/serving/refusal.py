"""The error for a request that is refused."""

from spn4cir.errors import InputError


class Refusal(InputError):
    """A refused request: a sentence for the user, and the HTTP status.

    Attributes:
        status: 4xx for a fault of the request, 503 for too many requests at once.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
