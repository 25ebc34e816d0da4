//! An HTTP client for tests: one request a connection, and nothing done behind their back.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Each header line; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Sends a request to `host` and reads the whole answer. A connection that ends before the
/// announced length is an error, and so is an answer that takes more than ten seconds.
pub fn send(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    parse(&received, method == "HEAD")
}

/// GET with one `Accept` line, if any.
pub fn get(host: &str, path: &str, accept: Option<&str>) -> io::Result<Response> {
    let headers: Vec<_> = accept.map(|accept| ("Accept", accept)).into_iter().collect();
    send(host, "GET", path, &headers, &[])
}

/// The bytes of a manifest or index, by tag or digest, whichever of the two it is.
pub fn manifest(host: &str, repository: &str, reference: &str) -> io::Result<Response> {
    let accept = "application/vnd.oci.image.index.v1+json, \
                  application/vnd.oci.image.manifest.v1+json";
    let path = format!("/v2/{repository}/manifests/{reference}");
    get(host, &path, Some(accept))
}

/// PUTs a manifest just as it is, and returns the status.
pub fn put_manifest(
    host: &str,
    repository: &str,
    reference: &str,
    media_type: &str,
    bytes: &[u8],
) -> io::Result<u16> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let headers = [("Content-Type", media_type)];
    Ok(send(host, "PUT", &path, &headers, bytes)?.status)
}

fn parse(received: &[u8], head_only: bool) -> io::Result<Response> {
    let cut = || Error::new(ErrorKind::UnexpectedEof, "the answer ends too early");
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(cut)?;
    let head = String::from_utf8_lossy(&received[..end]);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "not an HTTP answer"))?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: received[end + 4..].to_vec() };
    if head_only {
        return Ok(response);
    }
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = unchunk(&response.body).ok_or_else(cut)?;
    } else if let Some(length) = response.header("content-length") {
        let length =
            length.parse().map_err(|_| Error::new(ErrorKind::InvalidData, "the length is no number"))?;
        if response.body.len() < length {
            return Err(cut());
        }
        response.body.truncate(length);
    }
    Ok(response)
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(end + 2..end + 2 + size)?);
        bytes = bytes.get(end + 4 + size..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       4\r\nWiki\r\n6;name=value\r\npedia \r\n0\r\n\r\n";
        assert_eq!(parse(answer, false).expect("whole").body, b"Wikipedia ");
        for end in [answer.len() - 6, answer.len() - 12] {
            let error = parse(&answer[..end], false).expect_err("cut off");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_length_is_taken_at_its_word() {
        let answer = |body: &str| {
            let text = format!("HTTP/1.1 201 Created\r\nX-A: b\r\nContent-Length: 4\r\n\r\n{body}");
            parse(text.as_bytes(), false)
        };
        let whole = answer("1234").expect("whole");
        assert_eq!((whole.status, &*whole.body), (201, &b"1234"[..]));
        assert_eq!(whole.header("x-a"), Some("b"));
        let error = answer("123").expect_err("too short");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", true);
        assert_eq!(head.expect("a head is enough").body, b"");
    }
}
