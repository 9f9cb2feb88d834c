//! The shell: makes sure of the topic, runs the poll loop on its thread, tells it to drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_kernel::{Backoff, Cx, Exit, Service};
use forebay_schemas::failure::{Class, Classified};

use super::error::ConsumerError;
use super::params::ConsumerParams;
use super::poll;
use crate::telemetry::Need;

/// Delays between attempts to make sure of the topic.
const ENSURE_BACKOFF: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(30) };

/// The consumer. Nothing is posted to it.
#[derive(Debug)]
pub struct Consumer {
    params: Arc<ConsumerParams>,
    drain: Arc<AtomicBool>,
    reading: bool,
    attempts: u32,
}

impl Consumer {
    /// One incarnation; it starts where the group has committed.
    pub fn new(params: ConsumerParams) -> Self {
        Self { params: Arc::new(params), drain: Arc::default(), reading: false, attempts: 0 }
    }

    fn ensure(&mut self, cx: &mut Cx<'_, Self>) {
        cx.offload((self.params.ensure)(), |consumer, answer, cx| match answer {
            Ok(()) => {
                if consumer.attempts > 0 {
                    cx.progress().clear();
                }
                consumer.params.telemetry.there(Need::Topics);
                consumer.read(cx);
            }
            Err(error) if error.class() == Class::Transient => {
                if consumer.attempts == 0 {
                    tracing::warn!(topic = consumer.params.topic, %error, "waiting for the topic");
                }
                let delay = ENSURE_BACKOFF.delay(consumer.attempts, rand::random());
                consumer.attempts = consumer.attempts.saturating_add(1);
                cx.progress().waiting(format!("{error} (attempt {}, next in {:.1} s)", consumer.attempts, delay.as_secs_f64()));
                cx.after(delay, Self::ensure);
            }
            Err(error) => cx.exit(error.into_exit()),
        });
    }

    fn read(&mut self, cx: &mut Cx<'_, Self>) {
        self.reading = true;
        let (params, drain, progress) = (Arc::clone(&self.params), Arc::clone(&self.drain), cx.progress());
        cx.thread(
            "consumer",
            move |cancel| poll::run(&params, &progress, &drain, &cancel),
            |_, end, cx| cx.exit(end.map_or_else(ConsumerError::into_exit, |()| Exit::Shutdown)),
        );
    }
}

impl Service for Consumer {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        self.ensure(cx);
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.drain.store(true, Ordering::Relaxed);
        if !self.reading {
            cx.exit(Exit::Shutdown);
        }
    }
}
