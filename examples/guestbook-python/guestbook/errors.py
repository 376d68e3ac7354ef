"""The two ways in which a request fails that are nobody's bug."""


class InvalidError(Exception):
    """What the visitor sent cannot be taken; the message is for the visitor."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class UnavailableError(Exception):
    """A server behind the application does not answer; the visitor gets 503 and may try again."""
