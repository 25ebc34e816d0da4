//! Tar archives (POSIX ustar and pax, GNU), read piece by piece.

/// A block of an archive, in bytes.
pub(crate) const BLOCK: usize = 512;
/// Extended headers (pax, GNU) of more bytes than this are refused.
const MAX_EXTENDED: u64 = 1 << 20;

/// Why bytes are not a tar archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a tar archive: {0}")]
pub struct TarError(&'static str);

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path as written.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// Where the content begins, in bytes from the start of the archive.
    pub offset: u64,
    /// What else its headers say.
    pub attributes: Attributes,
}

/// What headers say of an entry besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permissions.
    pub mode: u64,
    /// User and group, by number.
    pub owner: (u64, u64),
    /// When it was changed, in seconds since 1970, as written.
    pub mtime: String,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symbolic link, and where it leads.
    Symlink(String),
    /// A hard link to another entry.
    Link(String),
    /// Something else.
    Other,
}

/// Who is told of what is in an archive, in its order.
pub trait Visit {
    /// An entry begins; its content follows.
    fn entry(&mut self, entry: Entry);
    /// The next bytes of its content.
    fn content(&mut self, bytes: &[u8]);
    /// It ends.
    fn end(&mut self);
}

/// Reads an archive, and tells its visitor.
#[derive(Debug, Default)]
pub struct Reader<V> {
    visitor: V,
    state: State,
    /// The bytes of a header, or of an extended header.
    kept: Vec<u8>,
    /// What an extended header says of the file after it.
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    owner: (Option<u64>, Option<u64>),
    mtime: Option<String>,
    /// Bytes taken so far.
    taken: u64,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    Body {
        body: Body,
        left: u64,
        padding: u64,
    },
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Of an entry.
    Entry,
    Pax,
    GnuPath,
    GnuLink,
    /// Of a header that says nothing to us.
    Ignored,
}

impl<V: Visit> Reader<V> {
    /// A reader that tells `visitor`.
    pub fn new(visitor: V) -> Self {
        Self {
            visitor,
            state: State::Header,
            kept: Vec::new(),
            path: None,
            link: None,
            size: None,
            owner: (None, None),
            mtime: None,
            taken: 0,
        }
    }

    /// Who is told.
    pub fn visitor(&self) -> &V {
        &self.visitor
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// When a header is none. What follows the end of the archive is left alone, as tar does.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::End => return Ok(()),
                State::Header => {
                    let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.kept.len()));
                    self.kept.extend_from_slice(now);
                    self.taken += now.len() as u64;
                    bytes = rest;
                    if self.kept.len() == BLOCK {
                        let header = std::mem::take(&mut self.kept);
                        self.state = self.header(&header)?;
                    }
                }
                State::Body { body, left, padding } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (now, rest) = bytes.split_at(most);
                    match body {
                        Body::Entry => self.visitor.content(now),
                        Body::Ignored => {}
                        Body::Pax | Body::GnuPath | Body::GnuLink => self.kept.extend_from_slice(now),
                    }
                    *left -= now.len() as u64;
                    self.taken += now.len() as u64;
                    bytes = rest;
                    if *left == 0 {
                        let skip = usize::try_from(*padding).unwrap_or(usize::MAX).min(bytes.len());
                        *padding -= skip as u64;
                        self.taken += skip as u64;
                        bytes = bytes.get(skip..).unwrap_or_default();
                        if *padding == 0 {
                            let body = *body;
                            self.state = State::Header;
                            self.finish_body(body)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The visitor, when all was told.
    ///
    /// # Errors
    /// When the archive ends in the middle of a file.
    pub fn finish(self) -> Result<V, TarError> {
        match self.state {
            State::Body { left, .. } if left > 0 => Err(TarError("it is cut short")),
            State::Header if !self.kept.is_empty() => Err(TarError("it is cut short")),
            _ => Ok(self.visitor),
        }
    }

    fn header(&mut self, header: &[u8]) -> Result<State, TarError> {
        if header.iter().all(|byte| *byte == 0) {
            return Ok(State::End);
        }
        let field = |from: usize, to: usize| header.get(from..to).unwrap_or_default();
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        if octal(field(148, 156)) != Some(sum) {
            return Err(TarError("a header has a wrong checksum"));
        }
        let stated = number(field(124, 136)).ok_or(TarError("a header has no size"))?;
        let kind = header.get(156).copied().unwrap_or_default();
        let extended = match kind {
            b'x' => Some(Body::Pax),
            b'L' => Some(Body::GnuPath),
            b'K' => Some(Body::GnuLink),
            b'g' => Some(Body::Ignored),
            _ => None,
        };
        let (size, body) = if let Some(body) = extended {
            if stated > MAX_EXTENDED {
                return Err(TarError("an extended header is too large"));
            }
            (stated, body)
        } else {
            let (path, link, size) = (self.path.take(), self.link.take(), self.size.take());
            let size = match kind {
                // Links, devices and directories have no content, whatever their header says.
                b'1'..=b'6' => 0,
                _ => size.unwrap_or(stated),
            };
            let path = path.unwrap_or_else(|| {
                let name = text(field(0, 100));
                let prefix = if field(257, 262) == b"ustar" { text(field(345, 500)) } else { String::new() };
                if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
            });
            let link = link.unwrap_or_else(|| text(field(157, 257)));
            let kind = match kind {
                b'0' | 0 | b'7' => {
                    Kind::File { executable: octal(field(100, 108)).is_some_and(|mode| mode & 0o111 != 0) }
                }
                b'1' => Kind::Link(link),
                b'2' => Kind::Symlink(link),
                _ => Kind::Other,
            };
            let (user, group) = std::mem::take(&mut self.owner);
            let stated = |from, to| number(field(from, to)).unwrap_or_default();
            let attributes = Attributes {
                mode: stated(100, 108),
                owner: (user.unwrap_or_else(|| stated(108, 116)), group.unwrap_or_else(|| stated(116, 124))),
                mtime: self.mtime.take().unwrap_or_else(|| stated(136, 148).to_string()),
            };
            self.visitor.entry(Entry { path, kind, size, offset: self.taken, attributes });
            (size, Body::Entry)
        };
        if size == 0 {
            self.finish_body(body)?;
            return Ok(State::Header);
        }
        Ok(State::Body { body, left: size, padding: (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64 })
    }

    fn finish_body(&mut self, body: Body) -> Result<(), TarError> {
        let kept = std::mem::take(&mut self.kept);
        match body {
            Body::Entry => self.visitor.end(),
            Body::Ignored => {}
            Body::GnuPath => self.path = Some(text(&kept)),
            Body::GnuLink => self.link = Some(text(&kept)),
            Body::Pax => self.pax(&kept)?,
        }
        Ok(())
    }

    /// Reads the records of a pax header: `LENGTH KEY=VALUE\n`.
    fn pax(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        const BAD: TarError = TarError("a pax header is malformed");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
            let length = std::str::from_utf8(bytes.get(..space).unwrap_or_default()).ok();
            let length: usize = length.and_then(|length| length.parse().ok()).ok_or(BAD)?;
            let record = bytes.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n"));
            let record = record.ok_or(BAD)?;
            if let Some(path) = record.strip_prefix(b"path=") {
                self.path = Some(text(path));
            } else if let Some(link) = record.strip_prefix(b"linkpath=") {
                self.link = Some(text(link));
            } else if let Some(size) = record.strip_prefix(b"size=") {
                let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
                self.size = Some(size.ok_or(TarError("a pax header has a malformed size"))?);
            } else if let Some(mtime) = record.strip_prefix(b"mtime=") {
                self.mtime = Some(text(mtime));
            } else if let Some(user) = record.strip_prefix(b"uid=") {
                self.owner.0 = text(user).parse().ok();
            } else if let Some(group) = record.strip_prefix(b"gid=") {
                self.owner.1 = text(group).parse().ok();
            }
            bytes = bytes.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

/// A number of a header: octal digits, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            rest.iter().try_fold(u64::from(first & 0x7f), |sum, byte| {
                sum.checked_mul(256)?.checked_add(u64::from(*byte))
            })
        }
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// Text up to the first zero byte.
fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
