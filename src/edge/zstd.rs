//! One zstd frame (RFC 8878, section 3.1.1), decoded while its bytes come in.

use std::io::{self, Write};

use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::Error;

/// The most bytes that a frame may look back, and that are kept of it: what RFC 8878 asks of every
/// decoder (section 3.1.1.1.2).
pub(super) const MAX_WINDOW: u64 = 8 << 20;
/// What the smallest frame may become: four bytes are 128 KiB of zeros, and layers do hold zeros.
const FREE: u64 = 1 << 30;
/// What each byte may become beyond that, about as with DEFLATE. Whoever waits for the bytes looks
/// at the clock between two pieces only: no piece may be the work of minutes.
const MAX_RATIO: u64 = 1100;
/// What a frame begins with.
pub(super) const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// The most bytes that a block may have, and may become.
const MAX_BLOCK: usize = 128 << 10;
/// Layers that are decoded at the same time, whatever image they are of: each may keep what it looks
/// back to.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
const BLOCK_HEADER: usize = 3;
const CHECKSUM: usize = 4;

/// Waits until one more layer may be decoded; it may for as long as this is kept.
///
/// # Errors
/// None: nobody closes the semaphore.
pub(super) async fn turn() -> Result<SemaphorePermit<'static>, Error> {
    AT_ONCE.acquire().await.map_err(|error| Error::undecided("cannot decode a layer").because(error))
}

/// Writes to `W` what one frame holds, without a dictionary. Anything before or after that frame,
/// another frame too, is an error: decoders differ on it. Errors are final.
///
/// A checksum must be there if it is announced, and is not compared: whoever decodes a layer holds
/// its content to a SHA-256.
pub(super) struct ZstdDecoder<W> {
    to: W,
    frame: FrameDecoder,
    part: Part,
    /// What has come of the part: `whole` bytes at most.
    held: Vec<u8>,
    whole: usize,
    /// Whether the frame says how much it holds.
    sized: bool,
    checksum: bool,
    taken: u64,
    given: u64,
}

/// What is decoded next. A block is given to the decoder when it is whole, and alone, so that no
/// more than one is decoded before it is written.
enum Part {
    Descriptor,
    Header,
    BlockHeader,
    Block,
    End,
}

impl<W: Write> ZstdDecoder<W> {
    pub(super) fn new(to: W) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MAX_WINDOW);
        Self {
            to,
            frame,
            part: Part::Descriptor,
            held: Vec::new(),
            whole: MAGIC.len() + 1,
            sized: false,
            checksum: false,
            taken: 0,
            given: 0,
        }
    }

    /// What was written to, once the frame is whole.
    pub(super) fn finish(self) -> io::Result<W> {
        match self.part {
            Part::End => Ok(self.to),
            _ => Err(malformed("the zstd frame is cut short")),
        }
    }

    /// The part is whole.
    fn step(&mut self) -> io::Result<()> {
        match self.part {
            Part::Descriptor => {
                let Some(&[descriptor]) = self.held.strip_prefix(&MAGIC) else {
                    return Err(malformed("it does not begin with a zstd frame"));
                };
                if descriptor & 0b1011 != 0 {
                    return Err(malformed("the zstd frame has a dictionary or a reserved flag"));
                }
                let single_segment = descriptor & 0b10_0000 != 0;
                let content_size = match descriptor >> 6 {
                    0 => usize::from(single_segment),
                    flag => 1 << flag,
                };
                self.checksum = descriptor & 0b100 != 0;
                self.sized = content_size > 0;
                self.part = Part::Header;
                self.whole += usize::from(!single_segment) + content_size;
            }
            Part::Header => {
                self.frame.init(self.held.as_slice()).map_err(|error| match error {
                    FrameDecoderError::WindowSizeTooBig { requested, max } => malformed(&format!(
                        "the zstd frame looks back {requested} bytes, and {max} at most are kept"
                    )),
                    error => io::Error::other(error),
                })?;
                self.next(Part::BlockHeader, BLOCK_HEADER);
            }
            Part::BlockHeader => {
                let Some(&header) = self.held.first_chunk::<BLOCK_HEADER>() else { return Ok(()) };
                let [low, middle, high] = header.map(usize::from);
                let header = low | middle << 8 | high << 16;
                let (last, kind, size) = (header & 1 == 1, header >> 1 & 3, header >> 3);
                if size > MAX_BLOCK {
                    return Err(malformed("a block of the zstd frame is too large"));
                }
                // What is repeated is one byte.
                self.whole += if kind == 1 { 1 } else { size };
                self.whole += if last && self.checksum { CHECKSUM } else { 0 };
                self.part = Part::Block;
            }
            Part::Block => {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let last = self.frame.decode_blocks(self.held.as_slice(), one).map_err(io::Error::other)?;
                self.given += self.frame.collect_to_writer(&mut self.to)? as u64;
                self.next(Part::BlockHeader, BLOCK_HEADER);
                if self.given > self.taken.saturating_mul(MAX_RATIO).saturating_add(FREE) {
                    return Err(malformed(&format!(
                        "{} bytes became {}, more than 1 GiB and {MAX_RATIO} times as many",
                        self.taken, self.given
                    )));
                }
                if last {
                    self.next(Part::End, 1);
                    let announced = self.frame.content_size();
                    if self.sized && self.given != announced {
                        return Err(malformed(&format!(
                            "the zstd frame says that it holds {announced} bytes, and holds {}",
                            self.given
                        )));
                    }
                }
            }
            Part::End => return Err(malformed("more follows the zstd frame")),
        }
        Ok(())
    }

    fn next(&mut self, part: Part, whole: usize) {
        self.taken += self.held.len() as u64;
        self.held.clear();
        (self.part, self.whole) = (part, whole);
    }
}

impl<W: Write> Write for ZstdDecoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        loop {
            let missing = self.whole.saturating_sub(self.held.len());
            let (piece, more) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
            self.held.extend_from_slice(piece);
            rest = more;
            if self.held.len() < self.whole {
                return Ok(bytes.len());
            }
            self.step()?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    const RAW: usize = 0;
    const REPEATED: usize = 1;
    const COMPRESSED: usize = 2;
    const RESERVED: usize = 3;

    fn decoded(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut decoder = ZstdDecoder::new(Vec::new());
        bytes.chunks(piece).try_for_each(|piece| decoder.write_all(piece))?;
        decoder.finish()
    }

    fn block(last: bool, kind: usize, size: usize, body: &[u8]) -> Vec<u8> {
        let header = usize::from(last) | kind << 1 | size << 3;
        [&header.to_le_bytes()[..BLOCK_HEADER], body].concat()
    }

    /// A frame with these flags and this header, and of what follows.
    fn frame(descriptor: u8, header: &[u8], blocks: &[Vec<u8>]) -> Vec<u8> {
        [&MAGIC[..], &[descriptor], header, &blocks.concat()].concat()
    }

    /// What `seq 3000; head -c 300000 /dev/zero; seq 3000` prints.
    fn numbers() -> Vec<u8> {
        let lines: Vec<u8> = (1..=3000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        [&lines[..], &vec![0; 300_000], &lines].concat()
    }

    #[test]
    fn a_frame_is_its_content_however_it_comes() {
        // Of the program `zstd`: at levels 1 (without a checksum), 3 and 19, and from a pipe, which
        // has no size.
        let made: [&[u8]; 4] = [
            include_bytes!("../../tests/zstd/numbers-1.zst"),
            include_bytes!("../../tests/zstd/numbers-3.zst"),
            include_bytes!("../../tests/zstd/numbers-19.zst"),
            include_bytes!("../../tests/zstd/numbers-pipe.zst"),
        ];
        let own = compress_to_vec(&numbers()[..], CompressionLevel::Fastest);
        for bytes in made.into_iter().chain([&own[..]]) {
            for piece in [1, 7, 4096, 1 << 20] {
                assert!(decoded(bytes, piece).unwrap() == numbers(), "in pieces of {piece}");
            }
            for end in [0, 3, 5, 8, bytes.len() / 2, bytes.len() - 1] {
                assert!(decoded(&bytes[..end], 1 << 20).is_err(), "cut after {end}");
            }
        }
    }

    #[test]
    fn what_decoders_could_read_in_two_ways_is_refused() {
        let hello = || block(true, RAW, 5, b"hello");
        // One segment of 5 bytes: the size stands for the window.
        let good = frame(0b10_0000, &[5], &[hello()]);
        let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &2_u32.to_le_bytes(), b"??"].concat();
        let windowed = |descriptor, window| frame(descriptor, &[window], &[hello()]);
        let checked = |sum: &[u8]| [&windowed(0b100, 0)[..], sum].concat();
        let sized = |size: u16| frame(0b100_0000, &[&[0], &size.to_le_bytes()[..]].concat(), &[hello()]);
        let large = |size| frame(0, &[13 << 3], &[block(true, REPEATED, size, b"0")]);
        let halves = [block(false, RAW, 2, b"he"), block(false, RAW, 0, b""), block(true, RAW, 3, b"llo")];
        for (what, read) in [
            ("one segment", good.clone()),
            ("a window", windowed(0, 0)),
            ("a window of 8 MiB", windowed(0, 13 << 3)),
            ("a checksum", checked(b"sums")),
            ("blocks", frame(0, &[0], &halves)),
        ] {
            for piece in [1, 1 << 20] {
                assert_eq!(decoded(&read, piece).unwrap(), b"hello", "{what}");
            }
        }
        assert_eq!(decoded(&large(MAX_BLOCK), 1 << 20).unwrap(), vec![b'0'; MAX_BLOCK]);
        assert_eq!(decoded(&frame(0b10_0000, &[0], &[block(true, RAW, 0, b"")]), 1).unwrap(), b"");
        for (what, bad, says) in [
            ("two frames", [&good[..], &good].concat(), "more follows"),
            ("a tail of zeros", [&good[..], &[0; 8]].concat(), "more follows"),
            ("a tail after a checksum", [checked(b"sums"), vec![0]].concat(), "more follows"),
            ("a frame to skip behind it", [&good[..], &skippable].concat(), "more follows"),
            ("a frame to skip before it", [&skippable[..], &good].concat(), "does not begin"),
            ("no frame", b"hello".to_vec(), "does not begin"),
            ("nothing", Vec::new(), "cut short"),
            ("no block", frame(0, &[0], &[]), "cut short"),
            ("no last block", frame(0, &[0], &[block(false, RAW, 5, b"hello")]), "cut short"),
            ("half a checksum", checked(b"su"), "cut short"),
            ("a dictionary", frame(0b1, &[0, 7], &[hello()]), "dictionary"),
            ("no dictionary, said at length", frame(0b10, &[0, 0, 0], &[hello()]), "dictionary"),
            ("a reserved flag", frame(0b10_1000, &[5], &[hello()]), "reserved"),
            ("a window of 9 MiB", windowed(0, 13 << 3 | 1), "looks back 9437184 bytes"),
            (
                "one segment of 9 MiB",
                frame(0b1010_0000, &(9_u32 << 20).to_le_bytes(), &[hello()]),
                "looks back",
            ),
            ("less than it says", frame(0b10_0000, &[6], &[hello()]), "says that it holds 6 bytes"),
            ("less than it says, in a window", sized(0), "says that it holds 256 bytes"),
            ("a reserved kind of block", frame(0, &[0], &[block(true, RESERVED, 5, b"hello")]), "eserved"),
            ("a block that is too large", large(MAX_BLOCK + 1), "too large"),
            ("a block larger than the window", frame(0, &[0], &[block(true, REPEATED, 1025, b"0")]), ""),
            ("a block of nonsense", frame(0, &[0], &[block(true, COMPRESSED, 5, b"hello")]), ""),
        ] {
            for piece in [1, 1 << 20] {
                let error = decoded(&bad, piece).expect_err(what);
                assert!(error.to_string().contains(says), "{what}: {error}");
            }
        }
    }

    #[test]
    fn zeros_are_read_and_bombs_are_not() {
        let bytes_of = |blocks: usize| {
            let mut bytes = frame(0, &[13 << 3], &[]);
            bytes.extend(block(false, REPEATED, MAX_BLOCK, b"0").repeat(blocks - 1));
            bytes.extend(block(true, REPEATED, MAX_BLOCK, b"0"));
            let mut decoder = ZstdDecoder::new(io::sink());
            let written = decoder.write_all(&bytes);
            (decoder.given, written.and_then(|()| decoder.finish().map(|_| ())))
        };
        let (given, read) = bytes_of(8192);
        read.unwrap();
        assert_eq!(given, 1 << 30);
        let (given, read) = bytes_of(16 * 8192);
        assert!(read.unwrap_err().to_string().contains("became"));
        assert!(given < 2 << 30, "{given}");
    }

    #[test]
    fn damage_is_an_error_or_other_content_of_the_size_announced() {
        let good = include_bytes!("../../tests/zstd/made.tar.zst");
        let (header, size) = (7, decoded(good, 1 << 20).unwrap().len());
        for bit in header * 8..good.len() * 8 {
            let mut damaged = good.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decoded(&damaged, 1 << 20).map_or(true, |other| other.len() == size), "bit {bit}");
        }
    }
}
