//! The body of an answer: nothing, one buffer, an object as it is read, or a stream whose length
//! nobody knows yet.
//!
//! What always holds: a body that fails half-way gives an error, so that hyper cuts the connection
//! and the client sees a short body, never a complete-looking one (I-7).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::{ObjectReader, ReadError};
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use metadata::backup::BackupFailure;

use crate::metrics::RequestMeter;

/// Verified bytes of an object, in order.
type ObjectStream = Pin<Box<dyn Stream<Item = Result<Bytes, ReadError>> + Send>>;

/// Bytes of which nobody knows yet how many there are; its end is their end.
pub type UnmeasuredStream = Pin<Box<dyn Stream<Item = Result<Bytes, ResponseBodyError>> + Send>>;

/// The body of an answer.
pub struct ResponseBody {
    content: Content,
    /// Ends the request's measurement when the last byte is handed over or the client is gone.
    meter: Option<RequestMeter>,
}

enum Content {
    Empty,
    Whole(Bytes),
    Stream { chunks: ObjectStream, left: u64 },
    Unmeasured(UnmeasuredStream),
}

/// The answer was cut short; hyper closes the connection.
#[derive(Debug, thiserror::Error)]
pub enum ResponseBodyError {
    /// The object could not be read on.
    #[error("the object could not be read to its end: {0}")]
    Read(#[from] ReadError),
    /// The reader gave another number of bytes than were announced: our bug.
    #[error("the object's bytes don't add up to its size")]
    WrongLength,
    /// The backup broke off.
    #[error(transparent)]
    Backup(#[from] BackupFailure),
}

impl ResponseBody {
    /// No bytes.
    pub const fn empty() -> Self {
        Self { content: Content::Empty, meter: None }
    }

    /// These bytes.
    pub const fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), meter: None }
    }

    /// What is left in `reader`, behind `first`: together `length` bytes.
    pub fn object(first: Bytes, reader: ObjectReader, length: u64) -> Self {
        let rest = futures_util::stream::unfold(reader, |mut reader| async move {
            reader.next().await.map(|chunk| (chunk, reader))
        });
        let first = futures_util::stream::once(std::future::ready(Ok(first)));
        let chunks = Box::pin(futures_util::StreamExt::chain(first, rest));
        Self { content: Content::Stream { chunks, left: length }, meter: None }
    }

    /// What `chunks` gives, sent in pieces; an error in it cuts the answer short.
    pub const fn unmeasured(chunks: UnmeasuredStream) -> Self {
        Self { content: Content::Unmeasured(chunks), meter: None }
    }

    /// Lets `meter` follow the body to its end.
    pub fn measured(mut self, meter: RequestMeter) -> Self {
        self.meter = Some(meter);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let this = &mut *self;
        let next = match &mut this.content {
            Content::Empty => None,
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                (!bytes.is_empty()).then_some(Ok(bytes))
            }
            Content::Unmeasured(chunks) => std::task::ready!(chunks.as_mut().poll_next(cx)),
            Content::Stream { chunks, left } => {
                match std::task::ready!(chunks.as_mut().poll_next(cx)) {
                    None if *left == 0 => None,
                    None => Some(Err(ResponseBodyError::WrongLength)),
                    Some(Ok(chunk)) => match left.checked_sub(chunk.len() as u64) {
                        Some(rest) => {
                            *left = rest;
                            Some(Ok(chunk))
                        }
                        None => Some(Err(ResponseBodyError::WrongLength)),
                    },
                    Some(Err(error)) => Some(Err(error.into())),
                }
            }
        };
        match next {
            Some(Ok(bytes)) => {
                if let Some(meter) = &mut this.meter {
                    meter.sent(bytes.len() as u64);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => {
                this.content = Content::Empty;
                if let Some(meter) = this.meter.take() {
                    meter.cut_short(&error);
                }
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.meter = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream { left, .. } => *left == 0,
            Content::Unmeasured(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream { left, .. } => SizeHint::with_exact(*left),
            Content::Unmeasured(_) => SizeHint::default(),
        }
    }
}
