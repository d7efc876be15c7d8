//! Where names lead: the socket addresses of peers.
//!
//! In: a peer's address, host and port. Out: what to connect to. What always holds: a name that was ever
//! found is known while no name server answers; a look-up that takes longer than whoever wants it waits
//! goes on, and the next one has what it finds.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::BoxFuture;
use crate::clock::{Clock, timeout};

/// Looks a name up.
type LookUp = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// The names that a client knows.
pub(super) struct Names {
    look_up: Box<LookUp>,
    known: Mutex<HashMap<String, Name>>,
}

#[derive(Default)]
struct Name {
    /// Where it led when that was last found.
    addresses: Vec<SocketAddr>,
    /// The look-up under way; why it failed, once it has.
    look_up: Option<watch::Receiver<Option<String>>>,
}

impl Names {
    /// Names that the system looks up.
    pub fn of_the_system() -> Arc<Self> {
        let look_up = |address: String| -> BoxFuture<'static, _> {
            Box::pin(async move { Ok(tokio::net::lookup_host(address).await?.collect()) })
        };
        Self::by(Box::new(look_up))
    }

    fn by(look_up: Box<LookUp>) -> Arc<Self> {
        Arc::new(Self { look_up, known: Mutex::default() })
    }

    /// Where an address leads, as it is now if that is found within `patience`, else as it was.
    pub async fn find(
        self: &Arc<Self>,
        address: &str,
        clock: &dyn Clock,
        patience: Duration,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = address.parse() {
            return Ok(vec![address]);
        }
        let mut under_way = self.begin(address);
        let failed = match timeout(clock, patience, under_way.wait_for(Option::is_some)).await {
            // Without a word it has found something.
            Ok(Ok(why)) => why.clone(),
            Ok(Err(_)) => None,
            Err(_) => Some("the look-up of its name takes too long".to_owned()),
        };
        let known = self.known();
        let last = known.get(address).map_or(&[][..], |name| &name.addresses);
        match failed {
            Some(why) if last.is_empty() => Err(io::Error::other(why)),
            None if last.is_empty() => Err(io::Error::other("its name leads nowhere")),
            _ => Ok(last.to_vec()),
        }
    }

    /// The look-up under way, or a new one.
    fn begin(self: &Arc<Self>, address: &str) -> watch::Receiver<Option<String>> {
        let mut known = self.known();
        let name = known.entry(address.to_owned()).or_default();
        if let Some(under_way) = &name.look_up {
            return under_way.clone();
        }
        let (failed, under_way) = watch::channel(None);
        name.look_up = Some(under_way.clone());
        let (names, address) = (Arc::clone(self), address.to_owned());
        tokio::spawn(async move {
            let found = (names.look_up)(address.clone()).await;
            let mut known = names.known();
            let Some(name) = known.get_mut(&address) else { return };
            name.look_up = None;
            match found {
                Ok(addresses) if !addresses.is_empty() => name.addresses = addresses,
                Ok(_) => {}
                Err(error) => {
                    failed.send_replace(Some(format!("its name can't be looked up: {error}")));
                }
            }
        });
        under_way
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Name>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::sync::oneshot;

    use super::*;
    use crate::clock::SystemClock;

    type Found = io::Result<Vec<SocketAddr>>;

    const SOON: Duration = Duration::from_millis(20);
    const EVER: Duration = Duration::from_mins(1);

    /// Answers of a name server, one for each look-up; one that has none never answers.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<VecDeque<oneshot::Receiver<Found>>>>);

    impl Server {
        fn names(&self) -> Arc<Names> {
            let answers = Arc::clone(&self.0);
            Names::by(Box::new(move |_| {
                let next = answers.lock().expect("no panic").pop_front();
                Box::pin(async move {
                    match next {
                        Some(answer) => answer.await.expect("an answer"),
                        None => std::future::pending().await,
                    }
                })
            }))
        }

        /// The next look-up, to be answered.
        fn next(&self) -> oneshot::Sender<Found> {
            let (answer, answered) = oneshot::channel();
            self.0.lock().expect("no panic").push_back(answered);
            answer
        }

        fn answers(&self, found: Found) {
            self.next().send(found).expect("wanted");
        }
    }

    fn at(last: u8) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([10, 0, 0, last], 9002))]
    }

    async fn find(names: &Arc<Names>, patience: Duration) -> Result<Vec<SocketAddr>, String> {
        let found = names.find("one:9002", &SystemClock::new(), patience).await;
        found.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn numbers_are_not_looked_up() {
        let names = Server::default().names();
        let found = names.find("10.0.0.7:9002", &SystemClock::new(), SOON).await;
        assert_eq!(found.expect("found"), at(7));
    }

    #[tokio::test]
    async fn what_was_found_is_known_while_no_server_answers() {
        let server = Server::default();
        let names = server.names();
        server.answers(Ok(at(1)));
        assert_eq!(find(&names, EVER).await, Ok(at(1)));
        // The host has moved.
        server.answers(Ok(at(2)));
        assert_eq!(find(&names, EVER).await, Ok(at(2)));
        server.answers(Err(io::Error::other("no server")));
        assert_eq!(find(&names, EVER).await, Ok(at(2)));
        server.answers(Ok(Vec::new()));
        assert_eq!(find(&names, EVER).await, Ok(at(2)));
        assert_eq!(find(&names, SOON).await, Ok(at(2)), "without any answer");
    }

    #[tokio::test]
    async fn a_slow_look_up_is_there_for_the_next_who_wants_it() {
        let server = Server::default();
        let names = server.names();
        let answer = server.next();
        let late = Err("the look-up of its name takes too long".to_owned());
        assert_eq!(find(&names, SOON).await, late);
        assert_eq!(find(&names, SOON).await, late);
        let asking = Arc::clone(&names);
        let waits = tokio::spawn(async move { find(&asking, EVER).await });
        answer.send(Ok(at(3))).expect("only one look-up was begun, and it goes on");
        assert_eq!(waits.await.expect("no panic"), Ok(at(3)));
        assert_eq!(find(&names, SOON).await, Ok(at(3)));
    }

    #[tokio::test]
    async fn what_was_never_found_says_why() {
        let server = Server::default();
        let names = server.names();
        server.answers(Err(io::Error::other("no such host")));
        let why = find(&names, EVER).await.expect_err("unknown");
        assert_eq!(why, "its name can't be looked up: no such host");
        server.answers(Ok(Vec::new()));
        assert_eq!(find(&names, EVER).await.expect_err("unknown"), "its name leads nowhere");
        server.answers(Ok(at(4)));
        assert_eq!(find(&names, EVER).await, Ok(at(4)));
    }
}
