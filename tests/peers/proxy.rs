//! A proxy that leads every name to one server, so that a server on loopback has a name.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Starts an HTTP proxy for TLS (RFC 9110, section 9.3.6) and returns its address. It lasts as
/// long as the process.
pub(crate) fn to(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            // A client that leaves in the middle is none of the proxy's business.
            thread::spawn(move || client.and_then(|client| tunnel(client, server)));
        }
    });
    address
}

fn tunnel(mut client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let head = BufReader::new(client.try_clone()?).lines();
    let head: Vec<_> = head.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).collect();
    if !matches!(&head[..], [Ok(first), ..] if first.starts_with("CONNECT ")) {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
    }
    let server = TcpStream::connect(server)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut to_server, mut from_server) = (server.try_clone()?, server);
    let mut from_client = client.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(std::net::Shutdown::Write)
    });
    let copied = io::copy(&mut from_server, &mut client);
    client.shutdown(std::net::Shutdown::Both)?;
    copied.map(drop)
}
