//! What a request's body says of the call before it is made, in one pass and without a copy of its texts.
//!
//! The same estimate as that of `llmquota.estimates.estimate_request` for the same body, which a test compares. What Python's
//! parser reads otherwise or alone (a number that is not finite, half a character, another encoding) is left to it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::estimates::{CHARS_PER_TOKEN, RequestSize};

/// How deep texts are looked for.
const DEPTH: u8 = 6;
/// More than any model answers: what asks for more is not to be priced by it.
const MOST_TOKENS: u64 = 1_000_000_000;
/// What sets the answer's length, the first that does.
const MAX_OUTPUT: [&str; 3] = ["max_completion_tokens", "max_output_tokens", "max_tokens"];
/// What holds text inside of an object. The data of an image is text that nobody charges as text.
const CONTENT: [&str; 6] = ["content", "text", "input", "arguments", "output", "refusal"];

/// What was read of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The model that it names.
    pub model: Option<String>,
    /// How much it sends and asks for.
    pub size: RequestSize,
}

/// Reads a request's body. `None` for what is no JSON object, or is to be read by Python's own parser.
#[must_use]
pub fn read(body: &[u8]) -> Option<Request> {
    // What is passed over is not checked by the parser.
    let mut json = serde_json::Deserializer::from_str(std::str::from_utf8(body).ok()?);
    let request = json.deserialize_map(Arguments).ok()?;
    json.end().ok().map(|()| request)
}

/// What one value counts.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    characters: u64,
    messages: u64,
    /// As far as it is above 0, where it is a whole number; to Python `true` and `false` are that too, and count nothing.
    whole: Option<u64>,
}

impl Part {
    fn text(text: &str) -> Self {
        Self { characters: text.chars().count() as u64, ..Self::default() }
    }

    fn whole(number: u64) -> Self {
        Self { whole: Some(number), ..Self::default() }
    }
}

/// The outermost object. Of a name that comes twice the last value counts.
struct Arguments;

impl<'de> Visitor<'de> for Arguments {
    type Value = Request;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request, A::Error> {
        let (mut model, mut choices, mut outputs) = (None, 0, [0; MAX_OUTPUT.len()]);
        let mut prompt: HashMap<String, Part> = HashMap::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == "model" {
                // Anything else is not a name; what that means is said elsewhere.
                model = Some(map.next_value::<String>()?);
                continue;
            }
            let part = map.next_value_seed(Value { depth: DEPTH })?;
            if let Some(place) = MAX_OUTPUT.iter().position(|known| *known == name) {
                outputs[place] = part.whole.unwrap_or(0);
                continue;
            }
            if name == "n" {
                choices = part.whole.unwrap_or(0);
            }
            prompt.insert(name.into_owned(), part);
        }
        prompt.retain(|name, _| name != "self" && name != "cls");
        let size = RequestSize {
            prompt_chars: prompt.values().map(|part| part.characters).sum(),
            messages: prompt.values().map(|part| part.messages).sum(),
            max_output_tokens: outputs.into_iter().find(|count| *count > 0).map(|count| count.min(MOST_TOKENS)),
            choices: choices.min(MOST_TOKENS),
        };
        Ok(Request { model, size })
    }
}

/// A value inside, which may hold text `depth` levels further down.
#[derive(Clone, Copy)]
struct Value {
    depth: u8,
}

impl Value {
    fn inside(self) -> Self {
        Self { depth: self.depth.saturating_sub(1) }
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Part;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Part, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Part;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Part, E> {
        Ok(Part::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Part, E> {
        Ok(Part::whole(0))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Part, E> {
        Ok(Part::whole(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Part, E> {
        Ok(Part::whole(u64::try_from(number).unwrap_or(0)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Part, E> {
        // Too large for the parser's whole numbers, or -0, which is none of them: how it was written is not known any more.
        let may_be_whole = number.abs() >= i64::MAX as f64 || number == 0.0 && number.is_sign_negative();
        if may_be_whole { Err(E::custom("a number for Python")) } else { Ok(Part::default()) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Part, E> {
        Ok(Part::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Part, A::Error> {
        if self.depth == 0 {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Part::default());
        }
        let (mut all, mut count, mut numbers) = (Part::default(), 0, 0);
        while let Some(item) = items.next_element_seed(self.inside())? {
            all.characters += item.characters;
            all.messages += item.messages;
            numbers += u64::from(item.whole.is_some());
            count += 1;
        }
        if numbers == count {
            // Token ids, as embeddings take them.
            all.characters = count * CHARS_PER_TOKEN;
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let (mut texts, mut messages) = ([0; CONTENT.len()], 0);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let known = CONTENT.iter().position(|known| *known == name).filter(|_| self.depth > 0);
            if let Some(place) = known {
                texts[place] = map.next_value_seed(self.inside())?.characters;
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            messages |= u64::from(name == "role" && self.depth > 0);
        }
        Ok(Part { characters: texts.iter().sum(), messages, whole: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(body: &str) -> RequestSize {
        read(body.as_bytes()).expect("a request").size
    }

    #[test]
    fn a_chat_request_is_its_texts_its_messages_and_its_maximum() {
        let body = r#"{"model": "gpt-4o", "stream": true, "n": 2, "max_completion_tokens": 100, "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "\u00e9\ud83d\ude00"}, {"type": "image_url", "image_url": {"url": "data:"}}]}
        ]}"#;
        let size = RequestSize { prompt_chars: 11, messages: 2, max_output_tokens: Some(100), choices: 2 };
        assert_eq!(read(body.as_bytes()), Some(Request { model: Some("gpt-4o".to_owned()), size }));
    }

    #[test]
    fn the_first_maximum_that_says_something_counts() {
        assert_eq!(
            size(r#"{"max_tokens": 3, "max_output_tokens": 2, "max_completion_tokens": 1}"#).max_output_tokens,
            Some(1)
        );
        assert_eq!(
            size(r#"{"max_tokens": 3, "max_completion_tokens": 0, "max_output_tokens": -1}"#).max_output_tokens,
            Some(3)
        );
        assert_eq!(size(r#"{"max_tokens": true, "max_output_tokens": 1.0}"#).max_output_tokens, None);
        assert_eq!(size(r#"{"max_tokens": 99999999999, "n": 99999999999}"#).max_output_tokens, Some(MOST_TOKENS));
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_counts() {
        let twice = size(r#"{"input": "abcdef", "n": 2, "max_tokens": 9, "input": "ab", "n": 3, "max_tokens": null}"#);
        assert_eq!(twice, RequestSize { prompt_chars: 2, messages: 0, max_output_tokens: None, choices: 3 });
        let inside = size(r#"{"messages": [{"content": "abcdef", "role": "user", "role": "user", "content": "a"}]}"#);
        assert_eq!((inside.prompt_chars, inside.messages), (1, 1));
    }

    #[test]
    fn token_ids_are_tokens() {
        assert_eq!(size(r#"{"input": [[1, 2, 3], [4, 5]]}"#).prompt_tokens(), 5);
        assert_eq!(size(r#"{"input": [1, 2.5, "abc"]}"#).prompt_chars, 3);
        assert_eq!(size(r#"{"input": []}"#).prompt_chars, 0);
    }

    #[test]
    fn texts_are_looked_for_so_deep_and_no_deeper() {
        let nested = |depth: usize| format!(r#"{{"input": {}"abc"{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(size(&nested(usize::from(DEPTH))).prompt_chars, 3);
        assert_eq!(size(&nested(usize::from(DEPTH) + 1)).prompt_chars, 0);
    }

    #[test]
    fn what_python_reads_otherwise_is_left_to_it() {
        for number in ["1e400", "-0", "-0.0", "NaN", "18446744073709551616", "-9223372036854775809", "1e19"] {
            assert_eq!(read(format!(r#"{{"max_tokens": {number}}}"#).as_bytes()), None, "{number}");
        }
        for number in ["9223372036854775808", "-9223372036854775808", "18446744073709551615", "1.5", "0.0", "1e18"] {
            assert!(read(format!(r#"{{"max_tokens": {number}}}"#).as_bytes()).is_some(), "{number}");
        }
        for body in [r#"{"model": null}"#, r#"{"input": "\ud83d"}"#, "[]", "", "{} x", "\u{feff}{}", r#"{"a": 1"#] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
        assert_eq!(read(b"{\"input\": \"\xff\"}"), None);
    }
}
