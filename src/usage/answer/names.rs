//! The names that matter in a provider's answer.

/// What a name of an answer's objects stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// One that says nothing of what was used.
    Other,
    /// The place of an array's elements.
    Element,
    /// `usage`
    Usage,
    /// What an answer may lie in: `response`, `message`, `data`.
    Response,
    Message,
    Data,
    /// What an answer is called.
    Id,
    ResponseId,
    Model,
    ServiceTier,
    Object,
    Type,
    /// The numbers of a usage.
    PromptTokens,
    InputTokens,
    CompletionTokens,
    OutputTokens,
    TotalTokens,
    InputDetails,
    OutputDetails,
    CachedTokens,
    CacheWriteTokens,
    CacheReadInputTokens,
    CacheCreationInputTokens,
    ReasoningTokens,
    AudioTokens,
    ImageTokens,
    CacheCreation,
    Ephemeral1hInputTokens,
    Seconds,
    /// How long a sound was that somebody heard for us, where no usage says it.
    Duration,
    ServerToolUse,
    WebSearchRequests,
    /// What the provider's own tools used, apart from the model.
    ToolUsage,
    WebSearch,
    NumRequests,
    /// What a tool was used for.
    Action,
    /// Where texts lie that a model made.
    Choices,
    Delta,
    Content,
    Text,
    Made,
    /// What the provider did on the way.
    Output,
    /// An image, in letters or by address.
    Image,
    /// What went wrong.
    Error,
    Code,
}

impl Name {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "usage" => Name::Usage,
            "response" => Name::Response,
            "message" => Name::Message,
            "data" => Name::Data,
            "id" => Name::Id,
            "response_id" => Name::ResponseId,
            "model" => Name::Model,
            "service_tier" => Name::ServiceTier,
            "object" => Name::Object,
            "type" => Name::Type,
            "prompt_tokens" => Name::PromptTokens,
            "input_tokens" => Name::InputTokens,
            "completion_tokens" => Name::CompletionTokens,
            "output_tokens" => Name::OutputTokens,
            "total_tokens" => Name::TotalTokens,
            "prompt_tokens_details" | "input_tokens_details" | "input_token_details" => Name::InputDetails,
            "completion_tokens_details" | "output_tokens_details" | "output_token_details" => Name::OutputDetails,
            "cached_tokens" => Name::CachedTokens,
            "cache_write_tokens" => Name::CacheWriteTokens,
            "cache_read_input_tokens" => Name::CacheReadInputTokens,
            "cache_creation_input_tokens" => Name::CacheCreationInputTokens,
            "reasoning_tokens" => Name::ReasoningTokens,
            "audio_tokens" => Name::AudioTokens,
            "image_tokens" => Name::ImageTokens,
            "cache_creation" => Name::CacheCreation,
            "ephemeral_1h_input_tokens" => Name::Ephemeral1hInputTokens,
            "seconds" => Name::Seconds,
            "duration" => Name::Duration,
            "server_tool_use" => Name::ServerToolUse,
            "web_search_requests" => Name::WebSearchRequests,
            "tool_usage" => Name::ToolUsage,
            "web_search" => Name::WebSearch,
            "num_requests" => Name::NumRequests,
            "action" => Name::Action,
            "choices" => Name::Choices,
            "delta" => Name::Delta,
            "content" => Name::Content,
            "text" => Name::Text,
            "arguments" | "partial_json" | "thinking" | "refusal" | "reasoning" | "reasoning_content" | "value"
            | "transcript" | "input" => Name::Made,
            "output" => Name::Output,
            "b64_json" | "url" => Name::Image,
            "error" => Name::Error,
            "code" => Name::Code,
            _ => Name::Other,
        }
    }

    /// As a report calls it.
    pub(super) const fn shown(self) -> &'static str {
        match self {
            Name::PromptTokens => "prompt_tokens",
            Name::InputTokens => "input_tokens",
            Name::CompletionTokens => "completion_tokens",
            Name::OutputTokens => "output_tokens",
            Name::TotalTokens => "total_tokens",
            Name::CachedTokens => "cached_tokens",
            Name::CacheWriteTokens => "cache_write_tokens",
            Name::CacheReadInputTokens => "cache_read_input_tokens",
            Name::CacheCreationInputTokens => "cache_creation_input_tokens",
            Name::ReasoningTokens => "reasoning_tokens",
            Name::AudioTokens => "audio_tokens",
            Name::ImageTokens => "image_tokens",
            Name::Ephemeral1hInputTokens => "ephemeral_1h_input_tokens",
            Name::Seconds => "seconds",
            Name::WebSearchRequests => "web_search_requests",
            _ => "usage",
        }
    }

    /// An answer may lie under it.
    pub(super) const fn holds(self) -> bool {
        matches!(self, Name::Response | Name::Message | Name::Data)
    }

    /// A text under it is one that a model made, where it lies in what a model makes.
    pub(super) const fn is_made(self) -> bool {
        matches!(self, Name::Content | Name::Text | Name::Made | Name::Delta)
    }
}
