//! A reader of a server that counts aloud: it lets no number be missing, or come twice, without a
//! gap, and no gap come twice.

use wsmux::{DisconnectReason, Gap, Message, StreamError, Subscription, WsManager};

use crate::within;

/// How many numbers tell that a stream is well.
const SOME: usize = 30;

/// A reader of numbers that follow on one another.
pub(crate) struct Reader {
    last: Option<u64>,
    stream: Subscription<Message>,
}

impl Reader {
    pub(crate) fn new(manager: &WsManager, name: &str) -> Self {
        Self { last: None, stream: manager.subscribe(name).unwrap() }
    }

    /// The next number is the one that follows, or there is a gap, whose reason this gives.
    pub(crate) async fn next(&mut self) -> Result<(), DisconnectReason> {
        match within(self.stream.recv()).await {
            Some(Ok(message)) => {
                let text = std::str::from_utf8(message.as_bytes()).unwrap();
                let number = text.parse().unwrap();
                let expected = self.last.map_or(number, |last| last + 1);
                assert_eq!(number, expected, "nothing is lost or repeated but at a gap");
                self.last = Some(number);
                Ok(())
            }
            Some(Err(StreamError::Gap(Gap::Reconnected { reason, .. }))) => {
                self.last = None;
                Err(reason)
            }
            other => panic!("neither a message nor a gap after a loss: {other:?}"),
        }
    }

    /// Reads some numbers, without a gap.
    pub(crate) async fn numbers(&mut self) {
        for _ in 0..SOME {
            self.next().await.expect("no gap");
        }
    }

    /// Reads up to the next gap, some numbers after it without another, and gives its reason.
    pub(crate) async fn one_gap(&mut self) -> DisconnectReason {
        loop {
            if let Err(reason) = self.next().await {
                self.numbers().await;
                return reason;
            }
        }
    }
}

mod twins {
    //! What a reader must not let pass, from a server that says it.

    use wsmux::test_util::MockServer;

    use super::*;
    use crate::{builder, config, direct};

    /// Reads one gap from a server that counts to 5, ends the socket, and says `numbers` on the next,
    /// which it ends, too.
    async fn read(numbers: impl IntoIterator<Item = u64>) -> DisconnectReason {
        let server = MockServer::start().await.unwrap();
        let manager = builder(direct(server.addr().port()), config()).build().unwrap();
        let mut reader = Reader::new(&manager, "numbers");
        let say = async |numbers: Vec<u64>| {
            let peer = within(server.accept()).await;
            peer.send_all(numbers.iter().map(u64::to_string)).await;
            peer.fin();
        };
        let (reason, ()) = tokio::join!(reader.one_gap(), async {
            say((0..5).collect()).await;
            say(numbers.into_iter().collect()).await;
        });
        reason
    }

    #[tokio::test]
    async fn numbers_that_follow_on_one_another_with_one_gap_are_well() {
        assert_eq!(read(0..30).await, DisconnectReason::Ended);
    }

    #[tokio::test]
    #[should_panic(expected = "nothing is lost or repeated but at a gap")]
    async fn a_number_that_is_missing_is_noticed() {
        read((0..10).chain(11..40)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "nothing is lost or repeated but at a gap")]
    async fn a_number_that_is_repeated_is_noticed() {
        read((0..10).chain(9..40)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "no gap")]
    async fn a_second_gap_is_noticed() {
        read(0..29).await;
    }
}
