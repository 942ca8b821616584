//! Where news come from, and where orders go.

use df_api::failure::Failure;
use tokio::sync::mpsc;

use crate::app::Interest;
use crate::demo::Demo;
use crate::event::Event;
use crate::model::Snapshot;
use crate::request::Request;

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

/// Where news come from.
pub enum Source {
    /// A cluster that is made up.
    Demo(Box<Demo>),
}

impl Source {
    /// What there is to see now.
    pub async fn look(&mut self, interest: &Interest) -> Snapshot {
        match self {
            Self::Demo(demo) => demo.snapshot(interest),
        }
    }

    /// Carries out one request, and says what came of it.
    ///
    /// # Errors
    /// What kept it from being carried out.
    pub async fn carry_out(&mut self, request: &Request) -> Result<String, Failure> {
        match self {
            Self::Demo(demo) => demo.carry_out(request),
        }
    }

    /// One second later, where time is made up too.
    pub fn step(&mut self) {
        match self {
            Self::Demo(demo) => demo.step(),
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
                    vec![Event::Seen(Box::new(self.look(&interest).await))]
                }
                Wish::Look(interest) => vec![Event::Seen(Box::new(self.look(&interest).await))],
                Wish::Order(requests) => self.order(&requests).await,
            };
            for event in told {
                if news.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    /// All requests, up to the first that fails.
    async fn order(&mut self, requests: &[Request]) -> Vec<Event> {
        let mut done = String::new();
        for (at, request) in requests.iter().enumerate() {
            match self.carry_out(request).await {
                Ok(text) => done = text,
                Err(failure) => {
                    let before = if at == 0 { String::new() } else { format!(" (after {at} of {})", requests.len()) };
                    let message = format!("{}{before}", failure.message);
                    return vec![Event::Failed(Failure { message, ..failure })];
                }
            }
        }
        let text = if requests.len() > 1 { format!("{} done; the last: {done}", requests.len()) } else { done };
        vec![Event::Done(text)]
    }
}
