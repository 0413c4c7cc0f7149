//! Server-sent events as they pass: what follows `data:` in each event, and where the event ends. A line is never held.

/// What is done with an event's data.
pub(super) trait Events {
    /// More of the data of the event under way.
    fn data(&mut self, bytes: &[u8]);
    /// The event has ended.
    fn end(&mut self);
}

/// Where in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Before its first byte.
    Start,
    /// In a name that is `data` so far, with so many letters.
    Name(usize),
    /// After `data:`, where one space may follow.
    Colon,
    Data,
    /// In a line of something else: a comment, an event's name or number.
    Other,
}

const DATA: &[u8] = b"data";
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads one event after the other.
#[derive(Debug)]
pub(super) struct Reader {
    line: Line,
    /// The line before ended with a carriage return, so that a newline belongs to it.
    has_return: bool,
    /// The event under way has data.
    has_data: bool,
    /// So many bytes of a byte order mark came first; none are looked for any more after another byte.
    mark: Option<usize>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { line: Line::Start, has_return: false, has_data: false, mark: Some(0) }
    }

    /// Reads on.
    pub(super) fn feed(&mut self, mut bytes: &[u8], events: &mut impl Events) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.skips(*byte) {
                bytes = rest;
                continue;
            }
            if matches!(self.line, Line::Data | Line::Other) {
                let end = memchr::memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
                let (content, rest) = bytes.split_at(end);
                if self.line == Line::Data && !content.is_empty() {
                    events.data(content);
                }
                bytes = rest;
                if let Some((byte, rest)) = rest.split_first() {
                    self.end_line(*byte, events);
                    bytes = rest;
                }
                continue;
            }
            match (self.line, *byte) {
                (_, b'\n' | b'\r') => {
                    self.end_line(*byte, events);
                    bytes = rest;
                }
                (Line::Colon, byte) => {
                    self.line = Line::Data;
                    if byte == b' ' {
                        bytes = rest;
                    }
                }
                (Line::Start, byte) => {
                    self.line = if DATA.first() == Some(&byte) { Line::Name(1) } else { Line::Other };
                    bytes = rest;
                }
                (Line::Name(len), byte) if DATA.get(len) == Some(&byte) => {
                    self.line = Line::Name(len + 1);
                    bytes = rest;
                }
                (Line::Name(len), b':') if len == DATA.len() => {
                    self.begin_data(events);
                    self.line = Line::Colon;
                    bytes = rest;
                }
                _ => self.line = Line::Other,
            }
        }
    }

    /// There are no more bytes: an event whose end did not come is told all the same, for what it says was used.
    pub(super) fn finish(&mut self, events: &mut impl Events) {
        if std::mem::take(&mut self.has_data) {
            events.end();
        }
        *self = Self::new();
    }

    /// True for a newline that belongs to the return before it, and for a byte order mark at the very start.
    fn skips(&mut self, byte: u8) -> bool {
        if let Some(len) = self.mark {
            self.mark = (MARK.get(len) == Some(&byte)).then_some(len + 1);
            if self.mark.is_some() {
                return true;
            }
        }
        std::mem::take(&mut self.has_return) && byte == b'\n'
    }

    /// Lines of one event are one text, with a newline between them.
    fn begin_data(&mut self, events: &mut impl Events) {
        if std::mem::replace(&mut self.has_data, true) {
            events.data(b"\n");
        }
    }

    fn end_line(&mut self, byte: u8, events: &mut impl Events) {
        self.has_return = byte == b'\r';
        match self.line {
            Line::Start if std::mem::take(&mut self.has_data) => events.end(),
            // A line of the bare name is an empty line of data.
            Line::Name(len) if len == DATA.len() => self.begin_data(events),
            _ => {}
        }
        self.line = Line::Start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[derive(Default)]
    struct Notes {
        data: Vec<u8>,
        events: Vec<String>,
    }

    impl Events for Notes {
        fn data(&mut self, bytes: &[u8]) {
            self.data.extend_from_slice(bytes);
        }
        fn end(&mut self) {
            self.events.push(String::from_utf8_lossy(&std::mem::take(&mut self.data)).into_owned());
        }
    }

    fn read(text: &[u8], piece: usize) -> Vec<String> {
        let (mut reader, mut notes) = (Reader::new(), Notes::default());
        text.chunks(piece.max(1)).for_each(|piece| reader.feed(piece, &mut notes));
        reader.finish(&mut notes);
        notes.events
    }

    #[test]
    fn the_standards_own_examples_are_read() {
        for (text, events) in [
            ("data: YHOO\ndata: +2\ndata: 10\n\n", vec!["YHOO\n+2\n10"]),
            (
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
                vec!["first event", "second event", " third event"],
            ),
            ("data\n\ndata\ndata\n\ndata:", vec!["", "\n", ""]),
            ("data:test\n\ndata: test\n\n", vec!["test", "test"]),
            ("\u{feff}event: a\r\ndata: 1\r\n\r\ndata: 2\r\rdata: 3\n\n\n\n", vec!["1", "2", "3"]),
            ("dat: 1\ndatab: 2\nDATA: 3\n data: 4\n\n", vec![]),
            ("data: {\"a\": \"data: x\"}\n\ndata: [DONE]", vec!["{\"a\": \"data: x\"}", "[DONE]"]),
        ] {
            for piece in [1, 2, 3, 7, 1_000] {
                assert_eq!(read(text.as_bytes(), piece), events, "{text:?} in pieces of {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn events_come_whole_in_pieces_of_any_size(
            events in proptest::collection::vec("[^\r\n]{0,30}", 0..6), piece in 1_usize..40, ending in 0_usize..3,
        ) {
            let ending = ["\n", "\r\n", "\r"][ending];
            let text: String = events.iter().map(|data| format!("event: e{ending}data: {data}{ending}{ending}")).collect();
            prop_assert_eq!(read(text.as_bytes(), piece), events);
        }

        #[test]
        fn no_bytes_are_too_odd_for_it(bytes: Vec<u8>, piece in 1_usize..40) {
            prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
        }
    }
}
