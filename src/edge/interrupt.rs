//! Being asked to end, by SIGINT or SIGTERM.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::output::Printer;
use crate::error::Error;

/// For the work to be left and the run to report; one that does not come to it is ended.
const GRACE: Duration = Duration::from_secs(1);
/// With this exit code.
const INTERRUPTED: i32 = 130;

/// Whether a run was asked to end. The first time, it ends where it stands, unless it holds that
/// off and sees to it by itself; the second time, in any case. Once it is to end, another signal
/// ends the process at once.
#[derive(Debug, Default)]
pub struct Interrupt(watch::Sender<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// The next one ends the run.
    #[default]
    Free,
    /// The next one is left to the work.
    Held,
    /// One came that was left to the work.
    Came,
    /// The run ends.
    Ends { held: bool },
}

impl State {
    fn came(self) -> bool {
        matches!(self, Self::Came | Self::Ends { .. })
    }

    fn after_a_signal(self) -> Self {
        match self {
            Self::Free => Self::Ends { held: false },
            Self::Held => Self::Came,
            Self::Came => Self::Ends { held: true },
            Self::Ends { held } => Self::Ends { held },
        }
    }

    /// Why the run ends, if so.
    fn ended(self) -> Option<Error> {
        match self {
            Self::Ends { held: false } => Some(Error::interrupted("interrupted").hint(
                "run the same command again: it says what is there now, and repeats nothing that is done",
            )),
            Self::Ends { held: true } => Some(
                Error::interrupted("interrupted twice while tags were written")
                    .hint("a tag may have moved: look at what each names, or run the same command again"),
            ),
            _ => None,
        }
    }
}

impl Interrupt {
    /// Hears signals from here on, on a thread of its own: whatever keeps the others busy, a
    /// process that is to end does.
    ///
    /// # Errors
    /// When there is no such thread.
    pub fn listen(self: &Arc<Self>, printer: Printer) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        let interrupt = Arc::clone(self);
        let heed = move || runtime.block_on(interrupt.heed(signals, printer));
        thread::Builder::new().name("signals".to_owned()).spawn(heed)?;
        Ok(())
    }

    async fn heed(&self, mut signals: Signals, printer: Printer) {
        let error = loop {
            signals.next().await;
            self.0.send_modify(|state| *state = state.after_a_signal());
            let state = *self.0.borrow();
            if let Some(error) = state.ended() {
                break error;
            }
        };
        let ended = async {
            tokio::time::sleep(GRACE).await;
            // Where nobody takes what is said, it is not waited for.
            let _ = tokio::task::spawn_blocking(move || printer.error(&error)).await;
        };
        tokio::select! {
            () = signals.next() => {}
            () = ended => {}
        }
        #[allow(clippy::exit, reason = "what holds the main thread may hold it for ever")]
        std::process::exit(INTERRUPTED)
    }

    /// Runs `work` until it is done, or to be left.
    ///
    /// # Errors
    /// Those of the work, and [`crate::error::Kind::Interrupted`].
    pub async fn run<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut states = self.0.subscribe();
        let ended = async {
            loop {
                let state = *states.borrow_and_update();
                if let Some(error) = state.ended() {
                    return error;
                }
                // It fails if nobody is left to change it; `self` is.
                let _ = states.changed().await;
            }
        };
        tokio::select! {
            biased;
            error = ended => Err(error),
            done = work => done,
        }
    }

    /// From here on, the first interrupt is left to the work. One that came before it still ends
    /// the run: whoever begins something after this asks [`Interrupt::came`] first.
    pub fn hold(&self) {
        self.0.send_modify(|state| {
            if *state == State::Free {
                *state = State::Held;
            }
        });
    }

    /// Whether one came.
    pub fn came(&self) -> bool {
        self.0.borrow().came()
    }

    /// What comes of `work`; nothing, if it goes on for longer than `grace` after an interrupt.
    pub async fn within<T>(&self, grace: Duration, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            let _ = self.0.subscribe().wait_for(|state| state.came()).await;
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
