//! What a provider's answer says was used: its bytes as they came in, the numbers out.
//!
//! Bytes pass through [`Answer::feed`] in pieces of any size, packed or not, a whole body or a stream of events, and nothing of
//! them is held but what matters: a stream of images takes no more memory than one of words. It never fails. What cannot be
//! read, or cannot be, is left out and named, for the call is paid all the same. Who made the call, and what it costs, is not
//! known here. Whoever carries an answer to its caller (the instrumentation) feeds it.

mod document;
mod encoding;
mod json;
mod names;
mod numbers;
mod sse;

use super::tokens::TokenUsage;
use document::{Document, Found};
use encoding::Decoder;
use json::{End, Scanner};
use names::Name;
use numbers::Numbers;
use sse::Events;

/// Problems that are told of one answer.
const MOST_PROBLEMS: usize = 8;

/// What was read of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// The tokens; `None` where it does not say.
    pub tokens: Option<TokenUsage>,
    /// Milliseconds that were heard or spoken, where that is what is charged.
    pub milliseconds: Option<u64>,
    /// Images that were made.
    pub images: u64,
    /// What the provider did on the way (`web_search`, `code_interpreter`, ...), and how often.
    pub tools: Vec<(String, u64)>,
    /// As the provider calls it.
    pub model: Option<String>,
    /// `default`, `flex`, `priority`, ...
    pub service_tier: Option<String>,
    /// The answer's own name.
    pub response_id: Option<String>,
    /// Characters that the model made, as far as they passed: what an estimate has where nothing is said.
    pub characters: u64,
    /// The answer came to its end: a whole body, or the event that says so.
    pub is_whole: bool,
    /// It says that the call failed.
    pub error: Option<Failure>,
    /// What was left out, and why.
    pub problems: Vec<String>,
}

/// An error that an answer carries, in a stream or under a status that says all is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// `rate_limit_exceeded`, `server_error`, ...
    pub code: Option<String>,
    /// `invalid_request_error`, `overloaded_error`, ...
    pub kind: Option<String>,
}

/// How the bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Not known before the first byte.
    Unknown,
    Json,
    Events,
    /// Sound, a file, a picture: nothing is said in it.
    Opaque,
}

/// Reads an answer as it passes.
#[derive(Debug)]
pub struct Answer {
    decoder: Decoder,
    reading: Reading,
}

#[derive(Debug)]
struct Reading {
    form: Form,
    events: sse::Reader,
    inner: Inner,
}

/// What the documents say, one after the other.
#[derive(Debug)]
struct Inner {
    scanner: Scanner<Name>,
    document: Document,
    /// So many bytes of `[DONE]` are what this event's data is so far; `None` once it is something else.
    done: Option<usize>,
    used: Used,
    /// What the answer under way has said so far; what those before it used is in `used`.
    numbers: Option<Numbers>,
    pieces: u64,
    whole: u64,
}

/// Ends a stream of chat.
const DONE: &[u8] = b"[DONE]";

impl Answer {
    /// An answer of this `Content-Type` and `Content-Encoding`, as their headers have them; `""` where there is none.
    #[must_use]
    pub fn new(content_type: &str, content_encoding: &str) -> Self {
        let mut reading = Reading { form: form_of(content_type), events: sse::Reader::new(), inner: Inner::new() };
        let known = if reading.form == Form::Opaque {
            // Sound, pictures, files: nobody unpacks what nobody reads.
            Ok(Decoder::Opaque)
        } else {
            Decoder::new(content_encoding)
        };
        let decoder = known.unwrap_or_else(|unknown| {
            reading.inner.note(format!("content-encoding is {unknown}"));
            Decoder::Opaque
        });
        Self { decoder, reading }
    }

    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { decoder, reading } = self;
        if reading.form == Form::Opaque {
            return;
        }
        if let Err(problem) = decoder.feed(bytes, &mut |plain| reading.feed(plain)) {
            reading.inner.note(problem);
        }
    }

    /// There are no more bytes.
    #[must_use]
    pub fn finish(self) -> Used {
        let Self { decoder, mut reading } = self;
        if let Err(problem) = decoder.finish(&mut |plain| reading.feed(plain)) {
            reading.inner.note(problem);
        }
        reading.finish()
    }
}

fn form_of(content_type: &str) -> Form {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "text/event-stream" {
        Form::Events
    } else if kind.is_empty() || kind.starts_with("text/") {
        Form::Unknown
    } else if kind.contains("json") {
        Form::Json
    } else {
        Form::Opaque
    }
}

impl Reading {
    fn feed(&mut self, bytes: &[u8]) {
        if self.form == Form::Unknown {
            self.form = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => return,
                Some(b'{' | b'[') => Form::Json,
                Some(b'd' | b'e' | b'i' | b'r' | b':' | 0xef) => Form::Events,
                Some(_) => Form::Opaque,
            };
        }
        match self.form {
            Form::Json => self.inner.read(bytes),
            Form::Events => self.events.feed(bytes, &mut self.inner),
            Form::Unknown | Form::Opaque => {}
        }
    }

    fn finish(mut self) -> Used {
        match self.form {
            Form::Json => self.inner.end_document("the answer", |found| found.is_whole),
            Form::Events => self.events.finish(&mut self.inner),
            Form::Unknown | Form::Opaque => {}
        }
        self.inner.finish()
    }
}

impl Inner {
    fn new() -> Self {
        Self {
            scanner: Scanner::new(),
            document: Document::default(),
            done: Some(0),
            used: Used::default(),
            numbers: None,
            pieces: 0,
            whole: 0,
        }
    }

    fn note(&mut self, problem: String) {
        if self.used.problems.len() < MOST_PROBLEMS && !self.used.problems.contains(&problem) {
            self.used.problems.push(problem);
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        self.scanner.feed(bytes, &mut self.document);
    }

    /// The bytes of a document are all there. `what` it is called, and whether it `ends` the answer.
    fn end_document(&mut self, what: &str, ends: impl Fn(&Found) -> bool) {
        let end = self.scanner.finish(&mut self.document);
        let found = std::mem::take(&mut self.document).end();
        match end {
            End::Whole => self.used.is_whole |= ends(&found),
            End::Cut => self.note(format!("{what} ends in the middle")),
            End::Broken => self.note(format!("{what} is no JSON")),
        }
        self.take(found);
    }

    fn take(&mut self, found: Found) {
        let Found { id, model, tier, numbers, pieces, whole, images, tools, error, problems, .. } = found;
        problems.into_iter().for_each(|problem| self.note(problem));
        if id.is_some() && self.used.response_id.is_some() && id != self.used.response_id && numbers.is_some() {
            self.end_answer();
        }
        if let Some(numbers) = numbers {
            self.numbers.get_or_insert_default().overlay(&numbers);
            // What carries the numbers knows best how it is called.
            self.used.response_id = id.or(self.used.response_id.take());
        } else if self.used.response_id.is_none() {
            self.used.response_id = id;
        }
        self.used.model = model.or(self.used.model.take());
        self.used.service_tier = tier.or(self.used.service_tier.take());
        self.used.images += images;
        if !tools.is_empty() {
            self.used.tools = tools;
        }
        self.used.error = error.or(self.used.error.take());
        self.pieces += pieces;
        self.whole = self.whole.max(whole);
    }

    /// Another answer follows in the same bytes: what this one used stays.
    fn end_answer(&mut self) {
        let Some(numbers) = self.numbers.take() else { return };
        if let Some(tokens) = numbers.tokens() {
            self.used.tokens = Some(self.used.tokens.map_or(tokens, |before| added(before, tokens)));
        }
        self.used.milliseconds = numbers.milliseconds().or(self.used.milliseconds);
    }

    fn finish(mut self) -> Used {
        self.end_answer();
        // A stream's last event may repeat the whole text that came in pieces.
        self.used.characters = self.pieces.max(self.whole);
        self.used
    }
}

/// The events that end an answer.
fn is_last(kind: &str) -> bool {
    matches!(kind, "message_stop" | "response.incomplete" | "response.failed" | "error")
        || kind.ends_with(".completed") && !kind.contains("_call.") && !kind.contains("step")
        || matches!(kind, "transcript.text.done" | "speech.audio.done" | "response.done")
}

impl Events for Inner {
    fn data(&mut self, bytes: &[u8]) {
        for (place, byte) in bytes.iter().enumerate() {
            match self.done {
                Some(len) if DONE.get(len) == Some(byte) => self.done = Some(len + 1),
                Some(len) => {
                    self.done = None;
                    self.read(DONE.get(..len).unwrap_or_default());
                    return self.read(bytes.get(place..).unwrap_or_default());
                }
                None => return self.read(bytes),
            }
        }
    }

    fn end(&mut self) {
        match self.done.replace(0) {
            Some(len) if len == DONE.len() => self.used.is_whole = true,
            // An event without data.
            Some(0) => {}
            part => {
                self.read(DONE.get(..part.unwrap_or(0)).unwrap_or_default());
                self.end_document("an event", |found| found.kind.as_deref().is_some_and(is_last));
            }
        }
    }
}

fn added(before: TokenUsage, more: TokenUsage) -> TokenUsage {
    let sum = |part: fn(&TokenUsage) -> u64| part(&before).saturating_add(part(&more));
    TokenUsage {
        input: sum(|usage| usage.input),
        output: sum(|usage| usage.output),
        cached_input: sum(|usage| usage.cached_input),
        cache_write: sum(|usage| usage.cache_write),
        reasoning: sum(|usage| usage.reasoning),
        audio_input: sum(|usage| usage.audio_input),
        audio_output: sum(|usage| usage.audio_output),
        image_input: sum(|usage| usage.image_input),
        image_output: sum(|usage| usage.image_output),
        cache_write_long: sum(|usage| usage.cache_write_long),
        unsplit: sum(|usage| usage.unsplit),
    }
    .clamped()
}
