//! Being asked to end, by SIGINT or SIGTERM.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Error;

/// Whether a run was asked to end. The first time, it ends where it stands, unless it holds that
/// off and sees to it by itself; the second time, in any case.
#[derive(Debug, Default)]
pub struct Interrupt {
    held: AtomicBool,
    came: watch::Sender<bool>,
}

impl Interrupt {
    /// Runs `work` until it is done, or to be left.
    ///
    /// # Errors
    /// Those of the work, and [`crate::error::Kind::Interrupted`].
    pub async fn run<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut signals = Signals::new().map_err(|error| Error::undecided("cannot start").because(error))?;
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = signals.next() => {
                    if !self.held.load(Ordering::Relaxed) {
                        return Err(Error::interrupted("interrupted").hint(
                            "run the same command again: it says what is there now, and repeats nothing \
                             that is done",
                        ));
                    }
                    if self.came.send_replace(true) {
                        return Err(Error::interrupted("interrupted twice while tags were written").hint(
                            "a tag may have moved: look at what each names, or run the same command again",
                        ));
                    }
                }
                done = &mut work => return done,
            }
        }
    }

    /// From here on, the first interrupt is left to the work.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Whether one came that was left to the work.
    pub fn came(&self) -> bool {
        *self.came.borrow()
    }

    /// What comes of `work`; nothing, if it goes on for longer than `grace` after an interrupt.
    pub async fn within<T>(&self, grace: Duration, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            let _ = self.came.subscribe().wait_for(|came| *came).await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = over => None,
        }
    }
}

#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]))
    }

    async fn next(&mut self) {
        let Self([interrupt, terminate]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps, reason = "as elsewhere")]
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
