"""Problems: errors in OpenAI's shape, the wanted ones included.

A model named `simulate-error-429`, or a message that contains those words, is answered with that status, so that an
application's handling of errors can be tried. `simulate-error-quota` is the 429 of a spent quota, `simulate-cut` breaks a stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WANTED = re.compile(r"simulate-error-(\d{3}|quota)")
_WORDS = {
    400: ("invalid_request_error", None, "Simulated: the request is invalid."),
    401: ("invalid_request_error", "invalid_api_key", "Simulated: the API key is invalid."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Simulated: not allowed."),
    404: ("invalid_request_error", "model_not_found", "Simulated: the model does not exist."),
    429: ("requests", "rate_limit_exceeded", "Simulated: rate limit reached. Please try again in 2s."),
    500: ("server_error", None, "Simulated: the server had an error while processing your request."),
    503: ("server_error", "server_is_overloaded", "Simulated: the engine is currently overloaded."),
}
_QUOTA = "Simulated: you exceeded your current quota, please check your plan and billing details."


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818  it is an answer, not a fault
    """An error answer."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> dict[str, object]:
        """{"error": {…}}."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def raise_wanted(*texts: str) -> None:
    """Raise the Problem that one of the texts asks for, if any does."""
    for text in texts:
        if found := _WANTED.search(text):
            if found[1] == "quota":
                raise Problem(429, _QUOTA, "insufficient_quota", "insufficient_quota")
            status = int(found[1])
            if 400 <= status <= 599:
                kind, code, message = _WORDS.get(
                    status, ("server_error" if status >= 500 else "invalid_request_error", None, "Simulated.")
                )
                headers = (("retry-after", "2"), ("retry-after-ms", "2000")) if status == 429 else ()
                raise Problem(status, message, kind, code, headers=headers)


def missing(parameter: str) -> Problem:
    """400: a required parameter is not there."""
    return Problem(
        400, f"Missing required parameter: '{parameter}'.", code="missing_required_parameter", param=parameter
    )


def invalid(parameter: str, message: str) -> Problem:
    """400: a parameter is there and wrong."""
    return Problem(400, message, code="invalid_value", param=parameter)
