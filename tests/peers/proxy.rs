//! A proxy that leads every name to one server, so that a server on loopback has a name; and a wire
//! on which bytes take their time, or are lost.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
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

/// The most bytes that go along a wire as one piece.
const PIECE: usize = 16 << 10;

/// Starts a wire to a server and returns its address. `fate` is asked of each piece, in both
/// directions: it goes on when that returns `true`, and is lost with its connection otherwise. The
/// wire lasts as long as the process.
pub(crate) fn wire(server: SocketAddr, fate: impl Fn() -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let fate = Arc::new(fate);
    thread::spawn(move || {
        for client in listener.incoming() {
            let fate = fate.clone();
            // Where there is no server, the client is left alone, too.
            thread::spawn(move || {
                let (client, server) = (client?, TcpStream::connect(server)?);
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                let (from, to, back) = (client.try_clone()?, server.try_clone()?, fate.clone());
                thread::spawn(move || carry(from, to, &*fate));
                carry(server, client, &*back)
            });
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, fate: &dyn Fn() -> bool) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let carried = match from.read(&mut piece)? {
            0 => return to.shutdown(Shutdown::Write),
            read if fate() => to.write_all(&piece[..read]),
            _ => Err(io::ErrorKind::ConnectionReset.into()),
        };
        if carried.is_err() {
            from.shutdown(Shutdown::Both)?;
            return to.shutdown(Shutdown::Both);
        }
    }
}
