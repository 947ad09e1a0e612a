"""What a client is answered when its request will not do."""

from spn4cir.errors import InputError


class Refusal(InputError):
    """A request that cannot be answered: a sentence for the person behind the client, and the HTTP status.

    Attributes:
        status: 4xx where the request is at fault, 503 where the server is full.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
