"""The quota tracker of this backend: every name is llmquota's."""

from llmquota.compat import (  # noqa: F401
    MultiWorkspaceQuotaManager,
    OpenAIQuotaTracker,
    QuotaStatus,
    WorkspaceQuotaManager,
    WorkspaceQuotaTracker,
    get_usage_client,
    openai_quota_tracker,
    quota_manager,
    quota_tracker,
    workspace_quota_manager,
)
