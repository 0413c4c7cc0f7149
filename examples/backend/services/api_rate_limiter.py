"""The rate limiter of this backend: every name is llmquota's."""

from llmquota.compat import (  # noqa: F401
    APIRateLimiter,
    RateLimitConfig,
    RateLimitStrategy,
    TokenBucket,
    acquire_api_permit,
    api_rate_limiter,
    execute_with_rate_limit,
    get_rate_limit_stats,
)
