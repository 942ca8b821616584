//! Where news come from, and where orders go.

use df_api::failure::{Code, Failure};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::app::Interest;
use crate::demo::Demo;
use crate::event::Event;
use crate::model::Snapshot;
use crate::request::Request;

mod daemon;
mod live;
mod manager;
mod orders;
mod policy;
pub(crate) mod rows;
mod wire;

pub use daemon::Daemon;
pub use live::Live;
pub use manager::Manager;

/// What is wanted of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// News, a second after the last.
    News(Interest),
    /// What is known now, about something else.
    Look(Interest),
    /// Changes.
    Order(Vec<Request>),
}

/// What came of a request.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// In words; several lines are to be read, not glanced at.
    pub text: String,
    /// In full.
    pub json: Value,
}

impl Outcome {
    /// What can be said in words alone.
    pub fn said(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { json: json!({ "done": text }), text }
    }
}

/// Where news come from.
pub enum Source {
    /// A cluster that is made up.
    Demo(Box<Demo>),
    /// A manager and the daemon of this node.
    Live(Box<Live>),
}

impl Source {
    /// What there is to see now.
    pub async fn look(&mut self, interest: &Interest) -> Snapshot {
        match self {
            Self::Demo(demo) => demo.snapshot(interest),
            Self::Live(live) => live.look(interest).await,
        }
    }

    /// What there is to see of one screen alone, for whoever wants it once.
    ///
    /// # Errors
    /// What the manager says, if it does not answer that.
    pub async fn look_at(&mut self, interest: &Interest) -> Result<Snapshot, Failure> {
        match self {
            Self::Demo(demo) => Ok(demo.snapshot(interest)),
            Self::Live(live) => live.look_at(interest).await,
        }
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// What kept it from being carried out.
    pub async fn carry_out(&mut self, request: &Request) -> Result<Outcome, Failure> {
        match self {
            Self::Demo(demo) => demo.carry_out(request).map(Outcome::said),
            Self::Live(live) => live.carry_out(request).await,
        }
    }

    /// Why the manager did not answer last, if it did not.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Demo(_) => None,
            Self::Live(live) => live.failure(),
        }
    }

    /// The manager itself, for what only a manager can answer.
    ///
    /// # Errors
    /// For a demo, which has none.
    pub fn manager(&mut self) -> Result<&mut Manager, Failure> {
        match self {
            Self::Demo(_) => Err(Failure::new(Code::Usage, "a demo has no manager")),
            Self::Live(live) => Ok(live.manager()),
        }
    }

    /// One second later, where time is made up too.
    pub fn step(&mut self) {
        if let Self::Demo(demo) = self {
            demo.step();
        }
    }

    /// Answers wishes until nobody has any more.
    pub async fn serve(mut self, mut wishes: mpsc::Receiver<Wish>, news: mpsc::Sender<Event>) {
        while let Some(mut wish) = wishes.recv().await {
            // Who asked twice wants the latest; orders are never passed over.
            while !matches!(wish, Wish::Order(_))
                && let Ok(next) = wishes.try_recv()
            {
                if matches!(wish, Wish::News(_)) {
                    self.step();
                }
                wish = next;
            }
            let told = match wish {
                Wish::News(interest) => {
                    self.step();
                    Event::Seen(Box::new(self.look(&interest).await))
                }
                Wish::Look(interest) => Event::Seen(Box::new(self.look(&interest).await)),
                Wish::Order(requests) => self.order(&requests).await,
            };
            if news.send(told).await.is_err() {
                return;
            }
        }
    }

    /// All requests, up to the first that fails.
    async fn order(&mut self, requests: &[Request]) -> Event {
        let mut done = String::new();
        for (at, request) in requests.iter().enumerate() {
            match self.carry_out(request).await {
                Ok(outcome) => done = outcome.text,
                Err(failure) => {
                    let before = if at == 0 { String::new() } else { format!(" (after {at} of {})", requests.len()) };
                    let message = format!("{}{before}", failure.message);
                    return Event::Failed(Failure { message, ..failure });
                }
            }
        }
        Event::Done(if requests.len() > 1 { format!("{} done; the last: {done}", requests.len()) } else { done })
    }
}
