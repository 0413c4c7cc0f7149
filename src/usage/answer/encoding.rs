//! Bodies that come packed: gzip, deflate, br and zstd, unpacked as they pass.

use std::io::Write;

/// What an unpacked piece is given to.
type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// The largest window that a zstd stream may ask for, as a power of two: RFC 9659 grants 8 MiB to what comes over HTTP.
const ZSTD_WINDOW: u32 = 23;
/// Bytes that a brotli stream is unpacked into at a time.
const BROTLI_PIECE: usize = 4_096;

/// Unpacks one body.
pub(super) enum Decoder {
    /// Nothing is packed.
    Plain,
    /// What came cannot be unpacked: the rest is passed over.
    Opaque,
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    /// With the zlib header that the standard wants, or without, as some servers have it: the first byte will tell.
    Deflate,
    Zlib(Box<flate2::write::ZlibDecoder<Vec<u8>>>),
    Raw(Box<flate2::write::DeflateDecoder<Vec<u8>>>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Vec<u8>>>),
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Decoder {
    /// The decoder of a `Content-Encoding`.
    ///
    /// # Errors
    /// The encoding, where it is not known or there are several.
    pub(super) fn new(encoding: &str) -> Result<Self, String> {
        Ok(match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Decoder::Plain,
            "gzip" | "x-gzip" => Decoder::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new()))),
            "deflate" => Decoder::Deflate,
            "br" => Decoder::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(Vec::new(), BROTLI_PIECE))),
            "zstd" => {
                let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).map_err(|error| error.to_string())?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(|error| error.to_string())?;
                Decoder::Zstd(Box::new(decoder))
            }
            other => return Err(other.chars().take(40).collect()),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Decoder::Plain | Decoder::Opaque => "plain",
            Decoder::Gzip(_) => "gzip",
            Decoder::Deflate | Decoder::Zlib(_) | Decoder::Raw(_) => "deflate",
            Decoder::Brotli(_) => "br",
            Decoder::Zstd(_) => "zstd",
        }
    }

    /// Unpacks more.
    ///
    /// # Errors
    /// Why it cannot be, once; from then on it is passed over.
    pub(super) fn feed(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), String> {
        if matches!(self, Decoder::Plain) {
            sink(bytes);
            return Ok(());
        }
        // In pieces, so that little that was packed is not much at once.
        bytes.chunks(1 << 10).try_for_each(|piece| self.write(piece, sink)).map_err(|error| {
            let problem = format!("the body is not {}: {error}", self.name());
            *self = Decoder::Opaque;
            problem
        })
    }

    fn write(&mut self, piece: &[u8], sink: Sink<'_>) -> std::io::Result<()> {
        match self {
            Decoder::Plain | Decoder::Opaque => Ok(()),
            Decoder::Gzip(decoder) => pass(decoder.write_all(piece), decoder.get_mut(), sink),
            Decoder::Deflate => {
                *self = Decoder::of_deflate(piece.first().copied().unwrap_or(0));
                self.write(piece, sink)
            }
            Decoder::Zlib(decoder) => pass(decoder.write_all(piece), decoder.get_mut(), sink),
            Decoder::Raw(decoder) => pass(decoder.write_all(piece), decoder.get_mut(), sink),
            Decoder::Brotli(decoder) => pass(decoder.write_all(piece), decoder.get_mut(), sink),
            Decoder::Zstd(decoder) => pass(decoder.write_all(piece), decoder.get_mut(), sink),
        }
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// Why what is left cannot be unpacked.
    pub(super) fn finish(mut self, sink: Sink<'_>) -> Result<(), String> {
        let name = self.name();
        let flushed = match &mut self {
            Decoder::Plain | Decoder::Opaque | Decoder::Deflate => Ok(()),
            Decoder::Gzip(decoder) => pass(decoder.try_finish(), decoder.get_mut(), sink),
            Decoder::Zlib(decoder) => pass(decoder.try_finish(), decoder.get_mut(), sink),
            Decoder::Raw(decoder) => pass(decoder.try_finish(), decoder.get_mut(), sink),
            Decoder::Brotli(decoder) => pass(decoder.flush(), decoder.get_mut(), sink),
            Decoder::Zstd(decoder) => pass(decoder.flush(), decoder.get_mut(), sink),
        };
        flushed.map_err(|error| format!("the body is not {name}: {error}"))
    }

    /// A zlib header begins with the method 8 and a window of at most 32 KiB; a deflate block does not.
    fn of_deflate(first: u8) -> Self {
        if first & 0x0f == 8 && first >> 4 <= 7 {
            Decoder::Zlib(Box::new(flate2::write::ZlibDecoder::new(Vec::new())))
        } else {
            Decoder::Raw(Box::new(flate2::write::DeflateDecoder::new(Vec::new())))
        }
    }
}

/// Gives on what was unpacked, also where the last of it could not be.
fn pass(unpacked: std::io::Result<()>, into: &mut Vec<u8>, sink: Sink<'_>) -> std::io::Result<()> {
    if !into.is_empty() {
        sink(into);
        into.clear();
    }
    unpacked
}
