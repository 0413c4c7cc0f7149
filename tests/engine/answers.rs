//! What answers of every shape say was used, in pieces of any size, packed or not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails to unwrap fails its test")]

use std::io::Write;

use llmquota::usage::TokenUsage;
use llmquota::usage::answer::{Answer, Failure, Used};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(content_type: &str, encoding: &str, body: &[u8], piece: usize) -> Used {
    let mut answer = Answer::new(content_type, encoding);
    body.chunks(piece.max(1)).for_each(|piece| answer.feed(piece));
    answer.finish()
}

fn body(value: &Value) -> Used {
    let text = value.to_string();
    let whole = read("application/json", "", text.as_bytes(), usize::MAX);
    assert_eq!(whole, read("application/json; charset=utf-8", "", text.as_bytes(), 1), "in single bytes");
    whole
}

fn stream(events: &[Value], done: bool) -> Used {
    let mut text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    if done {
        text += "data: [DONE]\n\n";
    }
    let whole = read("text/event-stream", "", text.as_bytes(), usize::MAX);
    assert_eq!(whole, read("text/event-stream; charset=utf-8", "", text.as_bytes(), 1), "in single bytes");
    whole
}

fn tokens(input: u64, output: u64) -> TokenUsage {
    TokenUsage { input, output, ..TokenUsage::default() }
}

#[test]
fn searches_count_as_they_are_charged() {
    let searches = |tool_usage: &str| {
        let body = format!(
            r#"{{"id":"resp_1","object":"response","output":[
                {{"type":"web_search_call","action":{{"type":"search","query":"a"}}}},
                {{"type":"web_search_call","action":{{"type":"open_page","url":"b"}}}},
                {{"type":"web_search_call","action":{{"type":"find_in_page","pattern":"c"}}}},
                {{"type":"computer_call","action":{{"type":"click"}}}},
                {{"type":"web_search_call"}}],{tool_usage}
                "usage":{{"input_tokens":1,"output_tokens":1}}}}"#
        );
        let mut answer = Answer::new("application/json", "");
        answer.feed(body.as_bytes());
        let tools = answer.finish().tools;
        tools.iter().find(|(name, _)| name == "web_search").map_or(0, |(_, times)| *times)
    };
    assert_eq!(searches(""), 2);
    // The provider's own count goes before what was seen.
    assert_eq!(searches(r#""tool_usage":{"image_gen":{"input_tokens":9},"web_search":{"num_requests":3}},"#), 3);
    assert_eq!(searches(r#""tool_usage":{"web_search":{"num_requests":0}},"#), 0);
}

#[test]
fn a_transcription_without_a_usage_says_how_long_it_was() {
    let milliseconds = |body: &str| {
        let mut answer = Answer::new("application/json", "");
        answer.feed(body.as_bytes());
        answer.finish().milliseconds
    };
    assert_eq!(milliseconds(r#"{"task":"translate","duration":8.47,"text":"hello"}"#), Some(8_470));
    assert_eq!(milliseconds(r#"{"duration":"8.470001","text":"hello"}"#), Some(8_471));
    // What it is charged by goes before.
    assert_eq!(milliseconds(r#"{"duration":8.47,"usage":{"type":"duration","seconds":9}}"#), Some(9_000));
    assert_eq!(milliseconds(r#"{"segments":[{"duration":3}],"duration":"long"}"#), None);
}

#[test]
fn pictures_and_long_cache_entries_are_parts() {
    let used = |body: &str| {
        let mut answer = Answer::new("application/json", "");
        answer.feed(body.as_bytes());
        answer.finish().tokens.unwrap()
    };
    let image = used(
        r#"{"usage":{"input_tokens":50,"input_tokens_details":{"image_tokens":40,"text_tokens":10},
            "output_tokens":100,"output_tokens_details":{"image_tokens":99,"text_tokens":1},"total_tokens":150}}"#,
    );
    assert_eq!(image, TokenUsage { image_input: 40, image_output: 99, ..tokens(50, 100) });
    let message = used(
        r#"{"usage":{"input_tokens":5,"cache_creation_input_tokens":20,"output_tokens":1,
            "cache_creation":{"ephemeral_5m_input_tokens":13,"ephemeral_1h_input_tokens":7}}}"#,
    );
    assert_eq!(message, TokenUsage { cache_write: 20, cache_write_long: 7, ..tokens(25, 1) });
}

#[test]
fn bodies_of_every_shape_are_read() {
    let chat = body(&json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-2024-08-06", "service_tier": "default",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello", "refusal": null}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 80, "audio_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 2, "accepted_prediction_tokens": 7}},
    }));
    let expected = TokenUsage { cached_input: 80, audio_input: 3, reasoning: 30, audio_output: 2, ..tokens(100, 50) };
    assert_eq!(chat.tokens, Some(expected));
    assert_eq!((chat.model.as_deref(), chat.service_tier.as_deref()), (Some("gpt-4o-2024-08-06"), Some("default")));
    assert_eq!((chat.response_id.as_deref(), chat.characters, chat.is_whole), (Some("chatcmpl-1"), 5, true));
    assert_eq!((chat.error, chat.problems), (None, Vec::new()));

    let response = body(&json!({
        "id": "resp_1", "object": "response", "error": null, "model": "gpt-5",
        "output": [{"id": "ws_1", "type": "web_search_call"}, {"type": "function_call", "id": "fc"},
            {"id": "ws_2", "type": "web_search_call"}, {"type": "code_interpreter_call"},
            {"type": "message", "content": [{"type": "output_text", "text": "abc"}]}],
        "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 16},
    }));
    assert_eq!(response.tokens, Some(TokenUsage { cached_input: 4, reasoning: 5, ..tokens(10, 6) }));
    assert_eq!(response.tools, [("web_search".to_owned(), 2), ("code_interpreter".to_owned(), 1)]);
    assert_eq!((response.characters, response.error), (3, None));

    let embeddings = body(&json!({
        "object": "list", "data": [{"object": "embedding", "embedding": [0.1, 0.2]}], "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }));
    assert_eq!((embeddings.tokens, embeddings.response_id), (Some(tokens(8, 0)), None));

    let images = body(&json!({
        "created": 1, "data": [{"b64_json": "QUJD".repeat(1_000)}, {"url": "https://x/1.png"}],
        "usage": {"input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}},
    }));
    let drawn = TokenUsage { image_input: 40, ..tokens(50, 4160) };
    assert_eq!((images.tokens, images.images, images.characters), (Some(drawn), 2, 0));

    let spoken = body(&json!({"text": "hi", "usage": {"type": "duration", "seconds": 12.5}}));
    assert_eq!((spoken.milliseconds, spoken.characters), (Some(12_500), 2));
    let spoken = body(&json!({"text": "hi", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45,
        "total_tokens": 59, "input_token_details": {"text_tokens": 4, "audio_tokens": 10}}}));
    assert_eq!(spoken.tokens, Some(TokenUsage { audio_input: 10, ..tokens(14, 45) }));

    let anthropic = body(&json!({
        "id": "msg_1", "type": "message", "model": "claude-sonnet-4-5", "content": [{"type": "text", "text": "abcd"}],
        "usage": {"input_tokens": 5, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 9,
            "service_tier": "standard", "server_tool_use": {"web_search_requests": 3}},
    }));
    assert_eq!(anthropic.tokens, Some(TokenUsage { cached_input: 100, cache_write: 20, ..tokens(125, 9) }));
    assert_eq!((anthropic.service_tier.as_deref(), anthropic.characters), (Some("standard"), 4));
    assert_eq!(anthropic.tools, [("web_search".to_owned(), 3)]);

    // A total that holds more than its parts counts; a list of answers was counted before.
    let gemini = body(&json!({"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}}));
    assert_eq!(gemini.tokens.map(|usage| (usage.total(), usage.unsplit)), Some((40, 25)));
    let list = body(&json!({"object": "list", "data": [{"id": "chatcmpl-1", "usage": {"prompt_tokens": 7}}]}));
    assert_eq!(list.tokens, None);
}

#[test]
fn streams_of_every_shape_are_read() {
    let chunk = |content: &str| {
        json!({"id": "chatcmpl-2", "model": "gpt-4o", "usage": null,
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": null}]})
    };
    let usage = json!({"id": "chatcmpl-2", "model": "gpt-4o", "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}});
    let chat = stream(&[chunk("Hel"), chunk("lo ü"), usage], true);
    assert_eq!((chat.tokens, chat.characters, chat.is_whole), (Some(tokens(9, 4)), 7, true));
    let cut = stream(&[chunk("Hel"), chunk("lo")], false);
    assert_eq!((cut.tokens, cut.characters, cut.is_whole, cut.problems), (None, 5, false, Vec::new()));

    let response = stream(
        &[
            json!({"type": "response.created", "response": {"id": "resp_2", "model": "gpt-5", "usage": null, "error": null}}),
            json!({"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hello"}),
            json!({"type": "response.function_call_arguments.delta", "delta": "{\"a\":1}"}),
            json!({"type": "response.output_item.done", "item": {"id": "ws_1", "type": "web_search_call"}}),
            json!({"type": "response.completed", "response": {"id": "resp_2", "model": "gpt-5", "error": null,
                "output": [{"type": "web_search_call"}, {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
                "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5,
                    "output_tokens_details": {"reasoning_tokens": 1}}}}),
        ],
        false,
    );
    assert_eq!(response.tokens, Some(TokenUsage { reasoning: 1, ..tokens(3, 2) }));
    assert_eq!((response.response_id.as_deref(), response.characters), (Some("resp_2"), 12));
    assert_eq!((response.tools, response.is_whole, response.error), (vec![("web_search".to_owned(), 1)], true, None));

    let anthropic = |ends: bool| {
        let mut events = vec![
            json!({"type": "message_start", "message": {"id": "msg_3", "model": "claude", "usage":
                {"input_tokens": 25, "cache_read_input_tokens": 10, "output_tokens": 1}}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello!"}}),
        ];
        if ends {
            events.push(
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}}),
            );
            events.push(json!({"type": "message_stop"}));
        }
        stream(&events, false)
    };
    let whole = anthropic(true);
    assert_eq!(whole.tokens, Some(TokenUsage { cached_input: 10, ..tokens(35, 15) }));
    assert_eq!((whole.model.as_deref(), whole.characters, whole.is_whole), (Some("claude"), 6, true));
    assert!(!anthropic(false).is_whole, "its output is not told yet");

    // What a step used is in its run's own usage; sound is no text.
    let run = stream(
        &[
            json!({"id": "step_1", "object": "thread.run.step", "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}}),
            json!({"id": "run_1", "object": "thread.run", "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}}),
        ],
        true,
    );
    assert_eq!((run.tokens, run.response_id.as_deref()), (Some(tokens(4, 1)), Some("run_1")));
    let sound = stream(
        &[
            json!({"type": "speech.audio.delta", "audio": "UklGR"}),
            json!({"delta": "UklGR", "type": "response.output_audio.delta"}),
            json!({"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}),
        ],
        false,
    );
    assert_eq!((sound.tokens, sound.characters, sound.is_whole), (Some(tokens(14, 101)), 0, true));
}

#[test]
fn an_error_is_told_wherever_it_stands() {
    let failure = |code: Option<&str>, kind: Option<&str>| {
        Some(Failure { code: code.map(str::to_owned), kind: kind.map(str::to_owned) })
    };
    let error =
        json!({"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota", "param": null}});
    assert_eq!(body(&error).error, failure(Some("insufficient_quota"), Some("insufficient_quota")));
    assert_eq!(body(&json!({"error": "overloaded"})).error, failure(None, None));
    let failed =
        json!({"type": "response.failed", "response": {"id": "r", "error": {"code": "server_error", "message": "x"}}});
    assert_eq!(stream(&[failed], false).error, failure(Some("server_error"), None));
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}});
    assert_eq!(stream(&[overloaded], false).error, failure(None, Some("overloaded_error")));
    assert_eq!(body(&json!({"error": null, "usage": {"total_tokens": 1}})).error, None);
}

#[test]
fn what_cannot_be_is_left_out_and_named() {
    let odd = body(&json!({"usage": {"prompt_tokens": -5, "completion_tokens": "12", "total_tokens": 7}}));
    assert_eq!(odd.tokens, Some(TokenUsage::unsplit(7)));
    assert_eq!(odd.problems, ["completion_tokens is \"12\"", "prompt_tokens is -5"]);
    let odd = read("application/json", "", br#"{"usage": {"prompt_tokens": 3"#, 2);
    assert_eq!((odd.tokens, odd.problems), (Some(tokens(3, 0)), vec!["the answer ends in the middle".to_owned()]));
    let odd = read("text/event-stream", "", b"data: {oops}\n\ndata: {\"usage\": {\"total_tokens\": 4}}\n\n", 3);
    assert_eq!((odd.tokens, odd.problems), (Some(TokenUsage::unsplit(4)), vec!["an event is no JSON".to_owned()]));
    assert_eq!(read("audio/mpeg", "", b"{\"usage\": {\"total_tokens\": 4}}", 3), Used::default());
    // Nor does it matter how that is packed.
    assert_eq!(read("audio/mpeg", "gzip", b"no gzip at all", 3), Used::default());
    assert_eq!(read("", "", b" {\"usage\": {\"total_tokens\": 4}}", 1).tokens, Some(TokenUsage::unsplit(4)));
    assert_eq!(
        read("", "", b"event: x\ndata: {\"usage\": {\"total_tokens\": 4}}\n\n", 1).tokens,
        Some(TokenUsage::unsplit(4))
    );
    // Part of a marker is no marker.
    assert_eq!(read("text/event-stream", "", b"data: [DO\n\ndata: [1]\n\n", 1).problems, ["an event is no JSON"]);
}

fn packed(encoding: &str, body: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            packer.write_all(body).unwrap();
            packer.finish().unwrap()
        }
        "deflate" => {
            let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            packer.write_all(body).unwrap();
            packer.finish().unwrap()
        }
        "raw" => {
            let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(body).unwrap();
            packer.finish().unwrap()
        }
        "br" => {
            let mut packed = Vec::new();
            brotli::CompressorWriter::new(&mut packed, 4_096, 5, 22).write_all(body).unwrap();
            packed
        }
        "zstd" => zstd::stream::encode_all(body, 3).unwrap(),
        _ => body.to_vec(),
    }
}

proptest! {
    #[test]
    fn packed_bodies_are_read_in_pieces_of_any_size(input in 0..1_000_u64, filler in "\\PC{0,400}", piece in 1..300_usize) {
        let text = json!({"id": filler, "usage": {"prompt_tokens": input}, "text": filler}).to_string();
        let expected = read("application/json", "", text.as_bytes(), usize::MAX);
        prop_assert_eq!(expected.tokens, Some(tokens(input, 0)));
        for encoding in ["", "gzip", "deflate", "raw", "br", "zstd"] {
            let header = if encoding == "raw" { "deflate" } else { encoding };
            let read = read("application/json", header, &packed(encoding, text.as_bytes()), piece);
            prop_assert_eq!(&read, &expected, "{}", encoding);
        }
    }

    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>, piece in 1..40_usize) {
        for kind in ["application/json", "text/event-stream", "", "audio/mpeg"] {
            for encoding in ["", "gzip", "deflate", "br", "zstd", "lz77", "gzip, br"] {
                let _used = read(kind, encoding, &bytes, piece);
            }
        }
    }
}

#[test]
fn a_body_that_is_not_packed_as_it_says_is_named() {
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let used = read("application/json", encoding, br#"{"usage": {"total_tokens": 4}}"#, 7);
        assert_eq!(used.tokens, None, "{encoding}");
        assert!(used.problems.iter().any(|problem| problem.contains(encoding)), "{encoding}: {:?}", used.problems);
    }
    assert_eq!(read("application/json", "lz77", b"{}", 7).problems, ["content-encoding is lz77"]);
    // What came before the cut is read.
    let body = packed("gzip", &[br#"{"usage": {"total_tokens": 4}, "x": ""#.as_slice(), &[b'a'; 100_000]].concat());
    let cut = read("application/json", "gzip", &body[..body.len() - 20], 10);
    assert_eq!(cut.tokens, Some(TokenUsage::unsplit(4)));
}

#[test]
fn an_event_of_megabytes_is_not_held() {
    // Two hundred megabytes that pack into two hundred kilobytes.
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(b"data: {\"type\": \"image_generation.completed\", \"b64_json\": \"").unwrap();
    (0..200).for_each(|_| packer.write_all(&[b'A'; 1 << 20]).unwrap());
    packer.write_all(b"\", \"usage\": {\"total_tokens\": 4160}}\n\n").unwrap();
    let body = packer.finish().unwrap();
    let before = peak();
    let used = read("text/event-stream", "gzip", &body, 1 << 16);
    assert_eq!((used.tokens, used.images, used.is_whole), (Some(TokenUsage::unsplit(4160)), 1, true));
    assert!(peak() < before + (32 << 20), "{} bytes more", peak() - before);
}

/// The most bytes that this process has had.
fn peak() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}
