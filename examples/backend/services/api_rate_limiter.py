"""The rate limiter of this backend: every name is llmquota's."""

from llmquota.compat import (
    APIRateLimiter as APIRateLimiter,
    RateLimitConfig as RateLimitConfig,
    RateLimitStrategy as RateLimitStrategy,
    TokenBucket as TokenBucket,
    acquire_api_permit as acquire_api_permit,
    api_rate_limiter as api_rate_limiter,
    execute_with_rate_limit as execute_with_rate_limit,
    get_rate_limit_stats as get_rate_limit_stats,
)
