//! A proxy that leads names to servers on loopback, so that these have names.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
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
