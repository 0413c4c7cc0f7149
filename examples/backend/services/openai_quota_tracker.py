"""The quota tracker of this backend: every name is llmquota's."""

from llmquota.compat import (
    MultiWorkspaceQuotaManager as MultiWorkspaceQuotaManager,
    OpenAIQuotaTracker as OpenAIQuotaTracker,
    QuotaStatus as QuotaStatus,
    WorkspaceQuotaManager as WorkspaceQuotaManager,
    WorkspaceQuotaTracker as WorkspaceQuotaTracker,
    get_usage_client as get_usage_client,
    openai_quota_tracker as openai_quota_tracker,
    quota_manager as quota_manager,
    quota_tracker as quota_tracker,
    workspace_quota_manager as workspace_quota_manager,
)
