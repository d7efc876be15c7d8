//! Peers that keep to no rule get nothing but refusals, and take no memory.

use std::time::Duration;

use model::node::Roles;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::entropy::{Entropy, SeededEntropy};
use wire::rpc::ServerLimits;
use wire::tls::Authority;

use crate::raw;
use crate::world::*;

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// A server in plain mode, and the connection of a node that said hello to it.
async fn met(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(&world.address).await.expect("it listens");
    stream.write_all(&raw::hello(&identity(2, Roles::GATEWAY))).await.expect("written");
    stream.read_exact(&mut [0; 48]).await.expect("its hello");
    stream
}

/// Waits until the other side hangs up.
async fn hung_up(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut bytes = vec![0; 1 << 16];
    let ended = async { while matches!(stream.read(&mut bytes).await, Ok(1..)) {} };
    tokio::time::timeout(LONG, ended).await.expect("the server hangs up");
}

async fn still_answers(world: &World) {
    let client = client(plain(9, Roles::GATEWAY));
    let told = put(&client, &world.address, ask::<2>(Op::Echo, 1));
    assert!(told.await.is_ok());
}

fn chunk(kind: u8, length: u32, id: u64) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(length.to_le_bytes());
    bytes.extend(id.to_le_bytes());
    bytes
}

/// A request that says of itself that it has these lengths, without its bytes.
fn promise(header: u32, attachments: &[u32]) -> Vec<u8> {
    promise_as(1, header, attachments)
}

fn promise_as(id: u64, header: u32, attachments: &[u32]) -> Vec<u8> {
    let mut bytes = chunk(1, 24 + 4 * attachments.len() as u32, id);
    bytes.extend([2, 0]);
    bytes.extend((attachments.len() as u16).to_le_bytes());
    bytes.extend(header.to_le_bytes());
    bytes.extend(7u64.to_le_bytes());
    bytes.extend(1000u32.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(attachments.iter().flat_map(|length| length.to_le_bytes()));
    bytes
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    let world = serve(plain(1, Roles::ALL)).await;
    let many = vec![1u32; 4097];
    let mut short_head = chunk(1, 24, 1);
    short_head.extend([2, 0, 1, 0]);
    short_head.extend([0; 20]);
    let mut more_than_said = promise(1, &[]);
    more_than_said[4] = 26;
    more_than_said.extend([0; 2]);
    let mut data_beyond = promise(3, &[]);
    data_beyond.extend(chunk(3, 4, 1));
    let begun_five_times: Vec<u8> = (1..=5).flat_map(|id| promise_as(id, 9, &[])).collect();
    for (what, bytes) in [
        ("an unknown kind", chunk(0, 0, 1)),
        ("an unknown kind", chunk(7, 0, 1)),
        ("reserved bytes", vec![5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("a chunk of 4 GiB", chunk(3, u32::MAX, 1)),
        ("a chunk without bytes", chunk(3, 0, 1)),
        ("a request without a head", chunk(1, 23, 1)),
        ("a cancel with bytes", chunk(4, 1, 1)),
        ("a header of 4 GiB", promise(u32::MAX, &[])),
        ("a header over its limit", promise((16 << 20) + 1, &[])),
        ("an attachment of 4 GiB", promise(1, &[u32::MAX])),
        ("attachments that are too much together", promise(1, &[32 << 20, (32 << 20) + 1])),
        ("attachments that overflow", promise(1, &[u32::MAX, u32::MAX, 2])),
        ("too many attachments", promise(1, &many)),
        ("a table outside of its chunk", short_head),
        ("more than was said", more_than_said),
        ("data beyond the end", data_beyond),
        ("a number that is in use", [promise(9, &[]), promise(9, &[])].concat()),
        ("too many at once", begun_five_times),
    ] {
        let mut stream = met(&world).await;
        stream.write_all(&bytes).await.expect("written");
        let mut answer = [0; 1];
        let read = tokio::time::timeout(LONG, stream.read(&mut answer)).await;
        assert!(!matches!(read.expect("the server hangs up"), Ok(1..)), "{what}");
    }
    assert!(world.service.begun().is_empty());
    still_answers(&world).await;
}

#[tokio::test]
async fn promises_take_no_memory() {
    let world = serve(plain(1, Roles::ALL)).await;
    still_answers(&world).await;
    let before = resident();
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = met(&world).await;
        for id in 1..=4 {
            stream.write_all(&promise_as(id, 16 << 20, &[64 << 20])).await.expect("written");
        }
        // The first byte of each header, for which there is then a place.
        for id in 1..=4 {
            stream.write_all(&chunk(3, 1, id)).await.expect("written");
            stream.write_all(&[0]).await.expect("written");
        }
        streams.push(stream);
    }
    still_answers(&world).await;
    // 16 GB were promised.
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    drop(streams);
}

#[tokio::test]
async fn truncated_frames_reach_no_handler() {
    let world = serve(plain(1, Roles::ALL)).await;
    let mut whole = promise(9, &[5]);
    whole.extend(chunk(3, 14, 1));
    whole.extend([0; 14]);
    for length in 0..whole.len() {
        let mut stream = met(&world).await;
        stream.write_all(&whole[..length]).await.expect("written");
        stream.shutdown().await.expect("shut");
        hung_up(&mut stream).await;
    }
    assert!(world.service.begun().is_empty());
    let mut stream = met(&world).await;
    stream.write_all(&whole).await.expect("written");
    world.service.until(|service| service.begun().len() == 1).await;
}

#[tokio::test]
async fn random_bytes_are_refused_at_every_stage() {
    let authority = authority();
    let secure = serve(tls(&authority, 1, Roles::ALL)).await;
    let world = serve(plain(1, Roles::ALL)).await;
    let entropy = SeededEntropy::new(4);
    let before = resident();
    for round in 0..300u64 {
        let mut bytes = vec![0; 1 + entropy.below(3000) as usize];
        entropy.fill(&mut bytes);
        let mut stream = match round % 3 {
            0 => TcpStream::connect(&secure.address).await.expect("it listens"),
            1 => TcpStream::connect(&world.address).await.expect("it listens"),
            _ => met(&world).await,
        };
        if round % 2 == 0 {
            // Something that could be a chunk, so as to come further.
            let kind = 1 + entropy.below(6) as u8;
            let begins = chunk(kind, entropy.below(100) as u32, entropy.below(3));
            bytes.splice(..0, begins);
        }
        // The server may hang up before it has read everything.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        hung_up(&mut stream).await;
    }
    assert!(world.service.begun().is_empty() && secure.service.begun().is_empty());
    assert!(resident().saturating_sub(before) < 64 << 20);
    still_answers(&world).await;
}

#[tokio::test]
async fn an_earlier_connections_bytes_are_worth_nothing() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    // What a client sent, as somebody on the way saw it.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let between = listener.local_addr().expect("an address").to_string();
    let server = world.address.clone();
    let recorder = tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("the client");
        let server = TcpStream::connect(&server).await.expect("it listens");
        let (mut client_read, mut client_write) = client.into_split();
        let (mut server_read, mut server_write) = server.into_split();
        let back = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut server_read, &mut client_write).await;
        });
        let mut recorded = Vec::new();
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = client_read.read(&mut bytes).await {
            recorded.extend_from_slice(&bytes[..read]);
            server_write.write_all(&bytes[..read]).await.expect("written");
        }
        back.abort();
        recorded
    });
    let client = client(tls(&authority, 2, Roles::GATEWAY));
    let told = client.call::<AskMetadata, Told>(&route(&between), ask(Op::Echo, 1), LONG).await;
    assert!(told.is_ok());
    drop(client);
    let recorded = recorder.await.expect("no panic");
    world.service.begun.lock().expect("not poisoned").clear();

    let mut stream = TcpStream::connect(&world.address).await.expect("it listens");
    let _ = stream.write_all(&recorded).await;
    hung_up(&mut stream).await;
    assert!(world.service.begun().is_empty());
}

#[tokio::test]
async fn who_dawdles_over_the_handshake_is_shown_out_and_holds_up_nobody() {
    let authority = authority();
    let limits = ServerLimits {
        handshake_timeout: Duration::from_millis(300),
        handshakes_per_address_max: 8,
        ..patient_limits()
    };
    let world = serve_with(tls(&authority, 1, Roles::ALL), limits, clock()).await;
    let mut slow = Vec::new();
    for at in 0..8u8 {
        let mut stream = TcpStream::connect(&world.address).await.expect("it listens");
        // The beginning of a record, one byte, nothing.
        let _ = stream.write_all(&[22, 3, 1, 2, 0][..usize::from(at % 6)]).await;
        slow.push(stream);
    }
    // One more from there isn't even looked at.
    let mut more = TcpStream::connect(&world.address).await.expect("it listens");
    hung_up(&mut more).await;
    for stream in &mut slow {
        hung_up(stream).await;
    }
    let client = client(tls(&authority, 2, Roles::GATEWAY));
    let told = put(&client, &world.address, ask::<2>(Op::Echo, 1));
    assert!(told.await.is_ok());
}

#[tokio::test]
async fn older_tls_and_other_protocols_are_refused() {
    let authority: Authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let (mut config, name) = raw::config(&authority);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(&world.address).await.expect("it listens");
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    assert!(connector.connect(name, stream).await.is_err());
    let mut stream = TcpStream::connect(&world.address).await.expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    hung_up(&mut stream).await;
}

#[tokio::test]
async fn a_node_gets_only_so_many_connections() {
    let limits = ServerLimits { connections_per_peer_max: 3, ..patient_limits() };
    let world = serve_with(plain(1, Roles::ALL), limits, clock()).await;
    let _held = [met(&world).await, met(&world).await, met(&world).await];
    let mut stream = TcpStream::connect(&world.address).await.expect("it listens");
    stream.write_all(&raw::hello(&identity(2, Roles::GATEWAY))).await.expect("written");
    assert!(stream.read_exact(&mut [0; 48]).await.is_err(), "no hello");
    still_answers(&world).await;
}
