"""Azure's retry options, as policies of this package."""

from __future__ import annotations

from datetime import timedelta

from ..core import retry as core_retry

__all__ = ["RetryOptions", "RetryPolicy"]


class RetryOptions:
    """How often an activity is tried, in Azure Functions' words.

    Every interval is as long as the first.

    Raises:
        ValueError: the interval (milliseconds) is not above 0, or there is no attempt.
    """

    def __init__(
        self, first_retry_interval_in_milliseconds: int, max_number_of_attempts: int
    ) -> None:
        if first_retry_interval_in_milliseconds <= 0:
            raise ValueError(
                "first_retry_interval_in_milliseconds must be above 0, not"
                f" {first_retry_interval_in_milliseconds!r}"
            )
        self.first_retry_interval_in_milliseconds = first_retry_interval_in_milliseconds
        self.max_number_of_attempts = max_number_of_attempts
        self.policy: core_retry.RetryPolicy = core_retry.RetryPolicy(
            first_interval=timedelta(milliseconds=first_retry_interval_in_milliseconds),
            max_attempts=max_number_of_attempts,
            backoff=1.0,
        )

    def to_json(self) -> dict[str, int]:
        """Return both numbers, by the names that Azure's JSON has."""
        return {
            "firstRetryIntervalInMilliseconds": self.first_retry_interval_in_milliseconds,
            "maxNumberOfAttempts": self.max_number_of_attempts,
        }


class RetryPolicy:
    """How often an activity is tried, in durabletask's words.

    Raises:
        ValueError, TypeError: a field is out of its range or of the wrong type.
    """

    def __init__(
        self,
        *,
        first_retry_interval: timedelta,
        max_number_of_attempts: int,
        backoff_coefficient: float | None = 1.0,
        max_retry_interval: timedelta | None = None,
        retry_timeout: timedelta | None = None,
    ) -> None:
        self.first_retry_interval = first_retry_interval
        self.max_number_of_attempts = max_number_of_attempts
        self.backoff_coefficient = backoff_coefficient
        self.max_retry_interval = max_retry_interval
        self.retry_timeout = retry_timeout
        self.policy: core_retry.RetryPolicy = core_retry.RetryPolicy(
            first_interval=first_retry_interval,
            max_attempts=max_number_of_attempts,
            backoff=1.0 if backoff_coefficient is None else backoff_coefficient,
            max_interval=max_retry_interval,
            total_timeout=retry_timeout,
        )
