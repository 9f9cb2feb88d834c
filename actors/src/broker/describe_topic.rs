//! The id that Kafka has given a topic, by librdkafka's `rd_kafka_DescribeTopics`, which the Rust client does not offer.
//!
//! Guarantee: a question ends in an answer or an error within its time-out, and frees what it took. Not guaranteed: that the answer is of the broker
//! that knows best; brokers of a cluster learn of a new topic one after the other. The only module of the workspace that allows `unsafe`: see
//! docs/adr/0018-topic-id.md.

#![allow(unsafe_code, reason = "the Rust client has no call for the id of a topic; each block says why it is sound")]

use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use forebay_schemas::topic::TopicId;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;

/// How much longer than the request the wait for its answer takes, so that a request that times out says so.
const GRACE: Duration = Duration::from_millis(500);

/// Something of librdkafka's that is freed when it goes.
struct Owned<T> {
    at: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes over what librdkafka gave; none when that is nothing.
    ///
    /// # Safety
    /// `at` is null, or is owned by the caller and freed by `free`.
    unsafe fn of(at: *mut T, free: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        (!at.is_null()).then_some(Self { at, free })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `at` is not null and owned by this value (see `of`), which is dropped once.
        unsafe { (self.free)(self.at) }
    }
}

/// The id of a topic; none from a broker that gives none (older than Kafka 2.8). Waits up to `within`, and half a second more.
///
/// # Errors
/// `UnknownTopicOrPartition` when there is no such topic; else why Kafka did not say.
pub(super) fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, within: Duration) -> KafkaResult<Option<TopicId>> {
    let name = CString::new(topic).map_err(KafkaError::from)?;
    let failed = |code: Code| KafkaError::MetadataFetch(code);
    let millis = |span: Duration| i32::try_from(span.as_millis()).unwrap_or(i32::MAX);
    let client = client.native_ptr();
    // SAFETY: the client outlives this call, which holds a reference to it, and all that is made here is freed before it returns. Each pointer that is
    // passed on is one that librdkafka gave, was found not null and was not freed since; `name` and `names` outlive the call that copies them.
    unsafe {
        let queue = Owned::of(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy).ok_or_else(|| failed(Code::Fail))?;
        let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Owned::of(rd::rd_kafka_AdminOptions_new(client, operation), rd::rd_kafka_AdminOptions_destroy);
        let options = options.ok_or_else(|| failed(Code::Fail))?;
        let set = rd::rd_kafka_AdminOptions_set_request_timeout(options.at, millis(within), ptr::null_mut(), 0);
        if set != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(set.into()));
        }
        let mut names = [name.as_ptr()];
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::of(topics, rd::rd_kafka_TopicCollection_destroy).ok_or_else(|| failed(Code::Fail))?;
        rd::rd_kafka_DescribeTopics(client, topics.at, options.at, queue.at);
        let answer = rd::rd_kafka_queue_poll(queue.at, millis(within.saturating_add(GRACE)));
        let answer = Owned::of(answer, rd::rd_kafka_event_destroy).ok_or_else(|| failed(Code::OperationTimedOut))?;
        let error = rd::rd_kafka_event_error(answer.at);
        if error != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(error.into()));
        }
        let result = rd::rd_kafka_event_DescribeTopics_result(answer.at);
        if result.is_null() {
            return Err(failed(Code::Fail));
        }
        let mut count = 0;
        let described = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count != 1 || described.is_null() || (*described).is_null() {
            return Err(failed(Code::UnknownTopicOrPartition));
        }
        // One description, as found above; it and what it holds live as long as the answer.
        let described = *described;
        let error = rd::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(described));
        if error != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(error.into()));
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(described);
        if id.is_null() {
            return Ok(None);
        }
        let half = |bits: i64| u128::from(bits.cast_unsigned());
        Ok(TopicId::from_bits(
            (half(rd::rd_kafka_Uuid_most_significant_bits(id)) << 64) | half(rd::rd_kafka_Uuid_least_significant_bits(id)),
        ))
    }
}
