//! A proxy that leads names to servers on loopback, so that these have names; and a wire on which
//! bytes take their time, or are lost.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Starts an HTTP proxy for TLS (RFC 9110, section 9.3.6) that leads every name to one server, and
/// returns its address. It lasts as long as the process.
pub(crate) fn to(server: SocketAddr) -> SocketAddr {
    by_name(move |_| Some(server))
}

/// The same, to the server that a name stands for, if any.
pub(crate) fn by_name(
    server: impl Fn(&str) -> Option<SocketAddr> + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let server = server.clone();
            // A client that leaves in the middle is none of the proxy's business.
            thread::spawn(move || client.and_then(|client| tunnel(client, server)));
        }
    });
    address
}

fn tunnel(mut client: TcpStream, server: impl Fn(&str) -> Option<SocketAddr>) -> io::Result<()> {
    let head = BufReader::new(client.try_clone()?).lines();
    let head: Vec<_> = head.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).collect();
    let [Ok(first), ..] = &head[..] else { return Ok(()) };
    let name = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(':').next());
    let Some(server) = name.and_then(server) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
    };
    let server = TcpStream::connect(server)?;
    // What was said in several pieces is not to wait for an acknowledgement of the first.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
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
