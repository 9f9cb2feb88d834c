//! The shell: ensures that the topic exists, runs the poll loop on its thread, and drains it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_kernel::{Backoff, Cx, Exit, Outage, Retry, Service};
use forebay_schemas::error_class::{Class, Classified};

use super::error::ConsumerError;
use super::params::ConsumerParams;
use super::poll;
use crate::telemetry::Need;

/// Delays between attempts to ensure that the topic exists.
const ENSURE_BACKOFF: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(30) };

/// The consumer. It takes no messages.
#[derive(Debug)]
pub(crate) struct Consumer {
    params: Arc<ConsumerParams>,
    drain: Arc<AtomicBool>,
    reading: bool,
    retry: Retry,
    outage: Outage,
}

impl Consumer {
    /// An incarnation. It starts where the group has committed.
    pub(crate) fn new(params: ConsumerParams) -> Self {
        Self {
            params: Arc::new(params),
            drain: Arc::default(),
            reading: false,
            retry: Retry::new(ENSURE_BACKOFF),
            outage: Outage::default(),
        }
    }

    fn ensure(&mut self, cx: &mut Cx<'_, Self>) {
        cx.offload((self.params.ensure_topic)(), |consumer, answer, cx| match answer {
            Ok(()) => {
                consumer.outage.clear(&cx.progress());
                consumer.params.telemetry.found(Need::Topics);
                consumer.start_polling(cx);
            }
            Err(error) if error.class() == Class::Transient => {
                let delay = consumer.retry.failed(rand::random());
                if consumer.outage.report(&cx.progress(), &error, consumer.retry.note(&error, delay)) {
                    tracing::warn!(topic = consumer.params.topic, %error, "topic is not ready; retrying");
                }
                cx.after(delay, Self::ensure);
            }
            Err(error) => cx.exit(error.into_exit()),
        });
    }

    fn start_polling(&mut self, cx: &mut Cx<'_, Self>) {
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
