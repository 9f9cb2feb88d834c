//! The actor that serves the embedded broker. Guarantee: it ends with [`Exit::Failed`] when the broker does, so that its supervisor
//! starts it again on the same files and port; an acknowledged record outlives it. Not guaranteed: that clients are answered while it
//! starts; they try again by themselves.

use std::convert::Infallible;
use std::path::PathBuf;

use super::embedded::{self, Address};
use crate::kernel::{Actor, Class, Cx, Exit};

/// The embedded broker.
#[derive(Debug)]
pub struct Broker {
    address: Address,
    data_dir: PathBuf,
}

impl Broker {
    /// A broker with its files under `data_dir`, to listen at `address`.
    pub fn new(address: Address, data_dir: PathBuf) -> Self {
        Self { address, data_dir }
    }
}

impl Actor for Broker {
    /// Nobody tells it anything: it speaks Kafka's protocol, on its port.
    type Message = Infallible;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        tracing::info!(address = %self.address, data_dir = %self.data_dir.display(), "embedded broker is starting");
        cx.offload(embedded::serve(self.address.clone(), self.data_dir.clone()), |_, ended, cx| {
            cx.exit(match ended {
                Ok(()) => Exit::Failed("the embedded broker stopped serving".into()),
                Err(error) if error.class() == Class::Fatal => Exit::Fatal(error.to_string()),
                Err(error) => Exit::Failed(error.to_string()),
            });
        });
    }

    fn handle(&mut self, message: Infallible, _: &mut Cx<'_, Self>) {
        match message {}
    }
}
