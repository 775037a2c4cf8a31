//! A request that the old socket has, while the one that took its place fails.

use futures::future::join;
use tokio::time;
use wsmux::test_util::{Answers, Mock};

use super::{Found, SECOND, built, check, finds};
use crate::asker::Desk;
use crate::requests::defect::Defect;
use crate::requests::{PoolConfig, Pooled};

async fn run() -> Found {
    let (mock, transport) = Mock::in_memory(Desk::echo());
    let config = PoolConfig::default().connections(2).fill(10);
    let pool = built(transport, config).build().map_err(|e| e.to_string())?;
    let _warm = pool.keep_warm(2).map_err(|e| e.to_string())?;
    time::sleep(SECOND).await;
    mock.answers(Answers::After(20 * SECOND));
    let breaking = async {
        time::sleep(SECOND).await;
        let name = Pooled::<crate::asker::Asker>::name(0, "x").unwrap();
        let before = mock.sockets();
        if !pool.manager().reconnect(name.as_str()) {
            return Err("there is nothing to be replaced".to_owned());
        }
        time::sleep(12 * SECOND).await;
        let new = mock.sockets().into_iter().find(|socket| !before.contains(socket));
        let new = new.ok_or("there is no new socket")?;
        mock.refuse_next([503; 3]);
        mock.tell(|_, out| out.drop_socket(new));
        Ok(())
    };
    let (reply, broken) = join(pool.request("a"), breaking).await;
    broken?;
    reply.map_err(|e| e.to_string())?;
    match mock.tell(|desk, _| desk.heard.len()) {
        1 => Ok(()),
        heard => Err(format!("it is asked {heard} times")),
    }
}

#[test]
fn what_a_socket_owes_is_not_asked_elsewhere_and_the_mistake_is_found() {
    finds(&[Defect::WrittenMoves], |defect| check(defect, run));
}
