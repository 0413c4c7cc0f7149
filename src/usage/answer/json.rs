//! JSON as it passes: bytes in, in pieces of any size, and out come the values that somebody asked for. Nothing else is held, so
//! that an event of megabytes costs no more memory than a small one.

/// The longest text whose letters are kept: a key, a model, an id. Of a longer one only the length is known.
pub(super) const MOST_KEPT: usize = 256;
/// How deep values are told of; what lies deeper is passed over.
const MOST_TOLD: usize = 12;
/// How deep a document may be. No provider's is; somebody's that is would take memory with each bracket.
const MOST_DEEP: usize = 1_024;

/// Who is told what a document is made of, in its order. A path has one key for each object and array around the value, from the
/// outermost on.
pub(super) trait Listener {
    /// What stands for a name: whatever tells those apart that matter.
    type Key: Copy;

    /// What stands for this name of an object's; `None` for one that is too long to matter.
    fn key(name: Option<&str>) -> Self::Key;
    /// What stands for the place of an array's elements.
    fn element() -> Self::Key;
    /// An object or an array begins.
    fn opens(&mut self, path: &[Self::Key]);
    /// A text, and how many characters it has; `None` in place of one that is too long to be kept.
    fn text(&mut self, path: &[Self::Key], text: Option<&str>, characters: u64);
    /// A number as it is written, or `true`, `false` or `null`.
    fn plain(&mut self, path: &[Self::Key], word: &str);
    /// The outermost value has ended.
    fn ends(&mut self);
}

/// How what was read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Between two documents.
    Whole,
    /// In the middle of one.
    Cut,
    /// In one that is no JSON.
    Broken,
}

/// Where the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a value; at the outside, before the next document.
    Value,
    /// After `[`.
    FirstElement,
    /// After `{`.
    FirstName,
    /// After a comma of an object.
    Name,
    /// After a name.
    Colon,
    /// After a value inside another.
    After,
    Text(Text),
    /// In a number or a word, which end where something else begins.
    Plain,
    /// What came is no JSON.
    Broken,
}

/// Where in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Letters,
    /// After a backslash.
    Escape,
    /// After `\u`, with so many digits to come.
    Unit(u8),
}

/// Reads one document after the other.
#[derive(Debug)]
pub(super) struct Scanner<K> {
    state: State,
    path: Vec<K>,
    /// Of each value that is open, whether it is an object.
    open: Vec<bool>,
    /// The text under way is a name.
    is_name: bool,
    /// The letters of the text, number or word under way, as far as they are kept.
    kept: Vec<u8>,
    is_cut: bool,
    characters: u64,
    /// The digits of a `\u`, and the first of two that make one character.
    unit: u32,
    first: Option<u32>,
}

impl<K: Copy> Scanner<K> {
    pub(super) fn new() -> Self {
        Self {
            state: State::Value,
            path: Vec::with_capacity(MOST_TOLD),
            open: Vec::new(),
            is_name: false,
            kept: Vec::new(),
            is_cut: false,
            characters: 0,
            unit: 0,
            first: None,
        }
    }

    /// Reads on.
    pub(super) fn feed<L: Listener<Key = K>>(&mut self, mut bytes: &[u8], listener: &mut L) {
        while let Some((byte, rest)) = bytes.split_first() {
            match self.state {
                State::Broken => return,
                State::Text(Text::Letters) => bytes = self.letters(bytes, listener),
                State::Text(inside) => {
                    self.escaped(inside, *byte);
                    bytes = rest;
                }
                State::Plain if is_plain(*byte) => {
                    self.keep(&[*byte]);
                    bytes = rest;
                }
                // The byte after it belongs to what follows.
                State::Plain => self.end_plain(listener),
                _ => {
                    self.step(*byte, listener);
                    bytes = rest;
                }
            }
        }
    }

    /// What was fed is all there is of this document: the next byte begins another.
    pub(super) fn finish<L: Listener<Key = K>>(&mut self, listener: &mut L) -> End {
        if self.state == State::Plain {
            self.end_plain(listener);
        }
        let end = match self.state {
            State::Broken => End::Broken,
            State::Value if self.open.is_empty() => End::Whole,
            _ => End::Cut,
        };
        self.state = State::Value;
        self.open.clear();
        self.path.clear();
        end
    }

    fn step<L: Listener<Key = K>>(&mut self, byte: u8, listener: &mut L) {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return;
        }
        self.state = match (self.state, byte) {
            (State::Value | State::FirstElement, b'{' | b'[') => return self.begin(byte == b'{', listener),
            (State::FirstElement, b']') | (State::FirstName, b'}') => return self.close(listener),
            (State::Value | State::FirstElement, b'"') => self.begin_text(false),
            (State::FirstName | State::Name, b'"') => self.begin_text(true),
            (State::Value | State::FirstElement, byte) if is_plain(byte) => {
                self.kept.clear();
                self.is_cut = false;
                self.keep(&[byte]);
                State::Plain
            }
            (State::Colon, b':') => State::Value,
            (State::After, b',') => {
                if self.is_in_object() {
                    State::Name
                } else {
                    State::Value
                }
            }
            (State::After, b'}') if self.is_in_object() => return self.close(listener),
            (State::After, b']') if !self.is_in_object() => return self.close(listener),
            _ => State::Broken,
        };
    }

    fn is_in_object(&self) -> bool {
        self.open.last().copied().unwrap_or(false)
    }

    /// True where a value that begins or ends here is told of.
    fn is_told(&self) -> bool {
        self.open.len() <= MOST_TOLD
    }

    fn begin<L: Listener<Key = K>>(&mut self, is_object: bool, listener: &mut L) {
        if self.open.len() >= MOST_DEEP {
            self.state = State::Broken;
            return;
        }
        if self.is_told() {
            listener.opens(&self.path);
        }
        self.open.push(is_object);
        if self.is_told() {
            self.path.push(L::element());
        }
        self.state = if is_object { State::FirstName } else { State::FirstElement };
    }

    fn close<L: Listener<Key = K>>(&mut self, listener: &mut L) {
        if self.is_told() {
            self.path.pop();
        }
        self.open.pop();
        self.after_value(listener);
    }

    fn after_value<L: Listener<Key = K>>(&mut self, listener: &mut L) {
        if self.open.is_empty() {
            self.state = State::Value;
            listener.ends();
        } else {
            self.state = State::After;
        }
    }

    fn keep(&mut self, letters: &[u8]) {
        let room = MOST_KEPT - self.kept.len();
        self.is_cut |= letters.len() > room;
        if !self.is_cut {
            self.kept.extend_from_slice(letters);
        }
    }

    fn end_plain<L: Listener<Key = K>>(&mut self, listener: &mut L) {
        let word = std::str::from_utf8(&self.kept).ok().filter(|_| !self.is_cut);
        let begins_number = |word: &str| word.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        match word {
            Some(word) if matches!(word, "true" | "false" | "null") || begins_number(word) => {
                if self.open.len() <= MOST_TOLD {
                    listener.plain(&self.path, word);
                }
                self.after_value(listener);
            }
            _ => self.state = State::Broken,
        }
    }

    fn begin_text(&mut self, is_name: bool) -> State {
        self.is_name = is_name;
        self.kept.clear();
        self.is_cut = false;
        self.characters = 0;
        self.first = None;
        State::Text(Text::Letters)
    }

    /// Letters until the text ends or something is escaped; answers what follows.
    fn letters<'b, L: Listener<Key = K>>(&mut self, bytes: &'b [u8], listener: &mut L) -> &'b [u8] {
        let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        let (letters, rest) = bytes.split_at(end);
        if !letters.is_empty() {
            self.lone_half();
            self.keep(letters);
            // All but the bytes that go on with a character.
            self.characters += letters.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u64;
        }
        match rest.split_first() {
            None => rest,
            Some((b'"', rest)) => {
                self.end_text(listener);
                rest
            }
            Some((_, rest)) => {
                self.state = State::Text(Text::Escape);
                rest
            }
        }
    }

    fn end_text<L: Listener<Key = K>>(&mut self, listener: &mut L) {
        self.lone_half();
        let text = std::str::from_utf8(&self.kept).ok().filter(|_| !self.is_cut);
        if self.is_name {
            if self.open.len() <= MOST_TOLD
                && let Some(place) = self.path.last_mut()
            {
                *place = L::key(text);
            }
            self.state = State::Colon;
        } else {
            if self.open.len() <= MOST_TOLD {
                listener.text(&self.path, text, self.characters);
            }
            self.after_value(listener);
        }
    }

    fn escaped(&mut self, inside: Text, byte: u8) {
        let next = match inside {
            Text::Unit(left) => match (byte as char).to_digit(16) {
                Some(digit) => {
                    self.unit = self.unit << 4 | digit;
                    if left == 1 {
                        self.end_unit();
                        Text::Letters
                    } else {
                        Text::Unit(left - 1)
                    }
                }
                None => return self.state = State::Broken,
            },
            Text::Escape if byte == b'u' => {
                self.unit = 0;
                Text::Unit(4)
            }
            _ => {
                self.lone_half();
                let letter = match byte {
                    b'"' | b'\\' | b'/' => byte,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    _ => return self.state = State::Broken,
                };
                self.keep(&[letter]);
                self.characters += 1;
                Text::Letters
            }
        };
        self.state = State::Text(next);
    }

    /// Four digits are whole: a character, or half of one.
    fn end_unit(&mut self) {
        let unit = self.unit;
        match (self.first.take(), unit) {
            (Some(first), 0xdc00..=0xdfff) => {
                self.keep_character(0x1_0000 + ((first - 0xd800) << 10) + (unit - 0xdc00))
            }
            (first, _) => {
                self.first = first;
                self.lone_half();
                if let 0xd800..=0xdbff = unit {
                    self.first = Some(unit);
                } else {
                    self.keep_character(unit);
                }
            }
        }
    }

    /// A first half that nothing follows stands for a character that cannot be.
    fn lone_half(&mut self) {
        if self.first.take().is_some() {
            self.keep_character(0xd800);
        }
    }

    fn keep_character(&mut self, code: u32) {
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.keep(character.encode_utf8(&mut [0; 4]).as_bytes());
        self.characters += 1;
    }
}

/// What numbers and words are made of.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Writes down what it is told.
    #[derive(Debug, Default, PartialEq)]
    struct Notes(Vec<String>);

    /// Names by their first letters, so that a path can be written down.
    type Name = [char; 3];

    fn written(path: &[Name]) -> String {
        path.iter().map(|name| name.iter().collect::<String>()).collect::<Vec<_>>().join("/")
    }

    impl Listener for Notes {
        type Key = Name;

        fn key(name: Option<&str>) -> Name {
            let mut letters = name.unwrap_or("***").chars();
            std::array::from_fn(|_| letters.next().unwrap_or('_'))
        }
        fn element() -> Name {
            ['[', ']', '_']
        }
        fn opens(&mut self, path: &[Name]) {
            self.0.push(format!("{} opens", written(path)));
        }
        fn text(&mut self, path: &[Name], text: Option<&str>, characters: u64) {
            self.0.push(format!("{} {text:?} {characters}", written(path)));
        }
        fn plain(&mut self, path: &[Name], word: &str) {
            self.0.push(format!("{} {word}", written(path)));
        }
        fn ends(&mut self) {
            self.0.push("ends".to_owned());
        }
    }

    fn read(text: &[u8], piece: usize) -> (Vec<String>, End) {
        let (mut scanner, mut notes) = (Scanner::new(), Notes::default());
        text.chunks(piece.max(1)).for_each(|piece| scanner.feed(piece, &mut notes));
        let end = scanner.finish(&mut notes);
        (notes.0, end)
    }

    /// What the scanner should tell of a value that `serde_json` has read.
    fn told(path: &mut Vec<Name>, value: &Value, notes: &mut Vec<String>) {
        let at = written(path);
        match value {
            Value::String(text) => {
                let kept = (text.len() <= MOST_KEPT).then_some(text.as_str());
                notes.push(format!("{at} {kept:?} {}", text.chars().count()));
            }
            Value::Array(values) => {
                notes.push(format!("{at} opens"));
                path.push(Notes::element());
                values.iter().for_each(|value| told(path, value, notes));
                path.pop();
            }
            Value::Object(values) => {
                notes.push(format!("{at} opens"));
                for (name, value) in values {
                    path.push(Notes::key((name.len() <= MOST_KEPT).then_some(name)));
                    told(path, value, notes);
                    path.pop();
                }
            }
            plain => notes.push(format!("{at} {plain}")),
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
            ".{200,300}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map("[a-z\"\\\\\u{e9}\u{1f600}]{0,8}", inner, 0..6)
                    .prop_map(|values| Value::Object(values.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_tells_what_another_parser_reads_in_pieces_of_any_size(
            values in proptest::collection::vec(any_value(), 1..3), piece in 1_usize..40, pretty: bool,
        ) {
            let (mut text, mut expected) = (String::new(), Vec::new());
            for value in &values {
                text += &if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }.unwrap();
                text.push('\n');
                told(&mut Vec::new(), value, &mut expected);
                expected.push("ends".to_owned());
            }
            prop_assert_eq!(read(text.as_bytes(), piece), (expected, End::Whole));
        }

        #[test]
        fn no_bytes_are_too_odd_for_it(bytes: Vec<u8>, piece in 1_usize..40) {
            prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
        }

        #[test]
        fn where_it_breaks_does_not_depend_on_the_pieces(value in any_value(), at: prop::sample::Index, byte: u8, piece in 1_usize..9) {
            let mut text = serde_json::to_vec(&value).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            prop_assert_eq!(read(&text, piece), read(&text, usize::MAX));
        }
    }

    #[test]
    fn escapes_are_characters() {
        let text = r#""a\u00e9\ud83d\ude00\ud83d\n\ud83d\u0041\\\"\/""#;
        let (notes, end) = read(text.as_bytes(), 1);
        assert_eq!(end, End::Whole);
        assert_eq!(notes, [r#" Some("aé😀�\n�A\\\"/") 10"#, "ends"]);
    }

    #[test]
    fn a_text_that_is_too_long_is_measured_and_not_kept() {
        let text = json!({"b64_json": "é".repeat(1 << 20), "id": "x"}).to_string();
        let (mut scanner, mut notes) = (Scanner::new(), Notes::default());
        text.as_bytes().chunks(1_000).for_each(|piece| scanner.feed(piece, &mut notes));
        assert_eq!(notes.0[1..3], ["b64 None 1048576", "id_ Some(\"x\") 1"]);
        assert!(scanner.kept.capacity() <= 2 * MOST_KEPT);
    }

    #[test]
    fn what_is_no_json_is_broken_until_the_next_document() {
        for text in ["{,}", "{\"a\" 1}", "[1 2]", "[}", "{]", "nul", "tru e", "\"\\x\"", "\"\\u12g4\"", "]", ":", "#"] {
            let (mut scanner, mut notes) = (Scanner::new(), Notes::default());
            scanner.feed(text.as_bytes(), &mut notes);
            scanner.feed(b"{\"late\": 1}", &mut notes);
            assert_eq!(scanner.finish(&mut notes), End::Broken, "{text}");
            assert!(!notes.0.iter().any(|note| note.contains("lat")), "{text}: {notes:?}");
            scanner.feed(b"7", &mut notes);
            assert_eq!(scanner.finish(&mut notes), End::Whole);
            assert_eq!(notes.0[notes.0.len() - 2..], [" 7", "ends"]);
        }
        for text in ["{", "[1,", "\"a", "{\"a\":", "{\"a", "\"\\u12"] {
            assert_eq!(read(text.as_bytes(), 1).1, End::Cut, "{text}");
        }
    }

    #[test]
    fn brackets_without_end_take_no_memory_without_end() {
        let (mut scanner, mut notes) = (Scanner::new(), Notes::default());
        (0..100_000).for_each(|_| scanner.feed(b"[[[[", &mut notes));
        assert!(scanner.open.capacity() <= 2 * MOST_DEEP);
        assert_eq!(scanner.finish(&mut notes), End::Broken);
    }
}
