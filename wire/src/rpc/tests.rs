//! The outgoing and the incoming side against each other, without a network.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use model::rpc::Frame;
use tokio::io::{AsyncRead, ReadBuf};

use super::frame::FrameHead;
use super::intake::{Incoming, Intake, IntakeLimits};
use super::limits::CHUNK_BYTES;
use super::outbox::{Outbox, Outgoing};

/// Gives so many bytes at a time.
struct Trickle(Bytes, usize);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let most = self.1.min(self.0.len()).min(into.remaining());
        into.put_slice(&self.0.split_to(most));
        Poll::Ready(Ok(()))
    }
}

const HEAD: FrameHead = FrameHead::Request { service: 2, target: 0x0807, deadline_ms: 300 };

fn frame(header: &'static [u8], attachments: &[usize]) -> Frame {
    let attachment = |bytes: &usize| Bytes::from(vec![*bytes as u8; *bytes]);
    let attachments = attachments.iter().map(attachment).collect();
    Frame { header: Bytes::from_static(header), attachments }
}

fn request(id: u64, frame: Frame) -> (Outgoing, Arc<AtomicBool>) {
    let sent = Arc::new(AtomicBool::new(false));
    (Outgoing::request(id, HEAD, frame, Arc::clone(&sent)), sent)
}

/// What an outbox writes until it has nothing more.
async fn written(outbox: &Outbox) -> Bytes {
    let mut bytes = Vec::new();
    tokio::select! {
        biased;
        result = outbox.write_to(&mut bytes) => result.expect("memory takes everything"),
        () = async { while !outbox.is_empty() { tokio::task::yield_now().await } } => {}
    }
    bytes.into()
}

async fn read(bytes: Bytes, at_a_time: usize) -> std::io::Result<Vec<Incoming>> {
    let mut intake = Intake::new(Trickle(bytes, at_a_time), IntakeLimits::NODE);
    let mut incoming = Vec::new();
    while let Some(next) = intake.next().await? {
        incoming.push(next);
    }
    Ok(incoming)
}

#[tokio::test]
async fn the_bytes_of_a_request_are_those_of_the_table() {
    let outbox = Outbox::default();
    outbox.push(request(0x0a0b, frame(b"ask", &[2, 0])).0);
    let expected: Vec<u8> = [
        &[1, 0, 0, 0, 37, 0, 0, 0, 0x0b, 0x0a, 0, 0, 0, 0, 0, 0][..],
        &[2, 0, 2, 0, 3, 0, 0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0x2c, 1, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        b"ask\x02\x02",
    ]
    .concat();
    assert_eq!(written(&outbox).await, expected);
    outbox.push(Outgoing::response(1, 5, Frame::default(), None));
    outbox.going_away();
    outbox.alive();
    outbox.alive();
    let expected: Vec<u8> = [
        &[6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(written(&outbox).await, expected);
}

#[tokio::test]
async fn frames_come_back_however_their_bytes_fall() {
    let frames = [
        frame(b"", &[]),
        frame(b"small", &[0, 1, 0]),
        frame(b"", &[0, 0]),
        frame(b"large", &[CHUNK_BYTES - 5, 1, 3 * CHUNK_BYTES, 0]),
        frame(b"larger", &[0, 40_000, 0, 200_000]),
        frame(b"third", &[100_000]),
        frame(b"fourth", &[70_000]),
        frame(b"fifth", &[65_536, 65_536]),
        frame(b"last", &[9; 500]),
    ];
    let outbox = Outbox::default();
    for (id, frame) in frames.iter().enumerate() {
        assert!(outbox.push(request(id as u64, frame.clone()).0));
    }
    let bytes = written(&outbox).await;
    for at_a_time in [1, 2, 3, 7, 16, 1000, 4096, 65_536, usize::MAX] {
        let mut came = vec![None; frames.len()];
        for incoming in read(bytes.clone(), at_a_time).await.expect("frames") {
            let Incoming::Request { id, service: 2, target: 0x0807, deadline_ms: 300, frame } =
                incoming
            else {
                panic!("{incoming:?}")
            };
            came[id as usize] = Some(frame);
        }
        for (id, frame) in frames.iter().enumerate() {
            assert!(came[id].as_ref() == Some(frame), "frame {id}, {at_a_time} at a time");
        }
    }
    // Cut anywhere, what comes is a part of that, and then an error or the end.
    for length in (0..bytes.len()).step_by(997) {
        let came = read(bytes.slice(..length), 4096).await.map(|came| came.len());
        assert!(came.is_err() || came.is_ok_and(|came| came < frames.len()));
    }
}

#[tokio::test]
async fn an_attachment_is_one_allocation_of_its_size() {
    let outbox = Outbox::default();
    outbox.push(request(1, frame(b"header", &[300_000, 5])).0);
    let bytes = written(&outbox).await;
    let mut came = read(bytes, 10_000).await.expect("a frame");
    let Some(Incoming::Request { frame, .. }) = came.pop() else { panic!("a request") };
    for (attachment, length) in frame.attachments.into_iter().zip([300_000, 5]) {
        let attachment = attachment.try_into_mut().expect("nobody else has it");
        assert_eq!((attachment.len(), attachment.capacity()), (length, length));
    }
}

#[tokio::test]
async fn small_frames_pass_large_ones_and_large_ones_take_turns() {
    let outbox = Outbox::default();
    for id in 0..6 {
        outbox.push(request(id, frame(b"", &[3 * CHUNK_BYTES])).0);
    }
    outbox.push(request(10, frame(b"small", &[])).0);
    let bytes = written(&outbox).await;
    let mut order = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 16) {
        order.push(u64::from(head[8]));
        at += 16 + u32::from_le_bytes(head[4..8].try_into().expect("4 bytes")) as usize;
    }
    assert_eq!(order.remove(0), 10);
    assert_eq!(order.len(), 6 * 3);
    let pieces = |id, until: usize| order[..until].iter().filter(|other| **other == id).count();
    for until in 1..=order.len() {
        let begun = (0..6).filter(|id| (1..3).contains(&pieces(*id, until))).count();
        assert!(begun <= 4, "{order:?}");
    }
    // The first isn't over when the second begins, and so on.
    for id in 0..5 {
        let next = order.iter().position(|other| *other == id + 1).expect("it is there");
        assert!(pieces(id, next) < 3, "{order:?}");
    }
    read(bytes, 4096).await.expect("never too many at once");
}

#[tokio::test]
async fn a_request_counts_as_sent_from_its_last_byte_on() {
    let outbox = Arc::new(Outbox::default());
    let (outgoing, sent) = request(1, frame(b"", &[4 * CHUNK_BYTES]));
    outbox.push(outgoing);
    // A stream that takes all but the last chunk.
    let (stream, mut other) = tokio::io::duplex(3 * CHUNK_BYTES);
    let writing = tokio::spawn({
        let outbox = Arc::clone(&outbox);
        async move { outbox.write_to(stream).await }
    });
    let mut bytes = vec![0; CHUNK_BYTES / 2];
    tokio::io::AsyncReadExt::read_exact(&mut other, &mut bytes).await.expect("written");
    assert!(!sent.load(Ordering::SeqCst));
    let mut bytes = vec![0; 3 * CHUNK_BYTES];
    tokio::io::AsyncReadExt::read_exact(&mut other, &mut bytes).await.expect("written");
    assert!(sent.load(Ordering::SeqCst));
    writing.abort();
}

#[tokio::test]
async fn what_is_cancelled_is_not_sent_and_told_of_if_it_was_begun() {
    let outbox = Outbox::default();
    outbox.push(request(1, frame(b"small", &[])).0);
    outbox.push(request(2, frame(b"", &[CHUNK_BYTES])).0);
    outbox.cancel(1, true);
    outbox.cancel(2, true);
    assert!(outbox.is_empty(), "nobody knows of them");
    outbox.cancel(3, false);
    assert!(outbox.is_empty(), "it is gone, and needn't be told");
    outbox.cancel(3, true);
    outbox.close();
    assert!(!outbox.push(request(4, frame(b"", &[])).0));
    assert_eq!(written(&outbox).await, Bytes::new());
}

#[tokio::test]
async fn a_receiver_forgets_what_was_begun_and_cancelled() {
    let begun = Outbox::default();
    begun.push(request(1, frame(b"begun", &[2 * CHUNK_BYTES])).0);
    let all = written(&begun).await;
    let first = 16 + u32::from_le_bytes(all[4..8].try_into().expect("4 bytes")) as usize;
    let rest = Outbox::default();
    rest.cancel(1, true);
    rest.push(request(1, frame(b"again", &[])).0);
    let bytes = [all.slice(..first), written(&rest).await, all.slice(first..)].concat();
    let came = read(bytes.into(), 1000).await.expect("frames");
    assert_eq!(came.first(), Some(&Incoming::Cancel(1)));
    assert!(
        matches!(&came[1..], [Incoming::Request { id: 1, frame, .. }] if *frame == self::frame(b"again", &[]))
    );
}
