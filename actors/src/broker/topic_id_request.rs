//! The id of a topic, from librdkafka's `rd_kafka_DescribeTopics`, which the Rust client does not
//! offer. The only module of the workspace that allows `unsafe`: see docs/adr/0018-topic-id.md.
//!
//! Guarantees:
//! * A request ends with an answer or an error timeout its time-out, and frees its memory.
//!
//! Does not guarantee the newest answer: the brokers of a cluster learn of a new topic one after
//! the other.

#![allow(unsafe_code, reason = "the Rust client has no call for the id of a topic; each block states why it is sound")]

use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use forebay_schemas::topic_id::TopicId;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;

/// How much longer than the request's time-out the wait is, so that the request reports it.
const POLL_GRACE: Duration = Duration::from_millis(500);

/// A pointer of librdkafka that is freed on drop.
struct OwnedPtr<T> {
    at: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> OwnedPtr<T> {
    /// Takes ownership of a pointer; `None` if it is null.
    ///
    /// # Safety
    /// `at` is null, or is owned by the caller and freed by `free`.
    unsafe fn of(at: *mut T, free: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        (!at.is_null()).then_some(Self { at, free })
    }
}

impl<T> Drop for OwnedPtr<T> {
    fn drop(&mut self) {
        // SAFETY: `at` is not null and owned by this value (see `of`), which is dropped once.
        unsafe { (self.free)(self.at) }
    }
}

/// The id of a topic; `None` from a broker without topic ids, which is older than Kafka 2.8. Waits
/// for `timeout` and half a second more.
///
/// # Errors
/// `UnknownTopicOrPartition` when the topic does not exist, else the error of the request.
pub(super) fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> KafkaResult<Option<TopicId>> {
    let name = CString::new(topic).map_err(KafkaError::from)?;
    let failed = |code: Code| KafkaError::MetadataFetch(code);
    let millis = |span: Duration| i32::try_from(span.as_millis()).unwrap_or(i32::MAX);
    let client = client.native_ptr();
    // SAFETY: the client outlives this call, which holds a reference to it, and everything created
    // here is freed before it returns. Each pointer that is passed on came from librdkafka, is not
    // null and is not freed yet. `name` and `names` outlive the call that copies them.
    unsafe {
        let queue = OwnedPtr::of(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy).ok_or_else(|| failed(Code::Fail))?;
        let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = OwnedPtr::of(rd::rd_kafka_AdminOptions_new(client, operation), rd::rd_kafka_AdminOptions_destroy);
        let options = options.ok_or_else(|| failed(Code::Fail))?;
        let set = rd::rd_kafka_AdminOptions_set_request_timeout(options.at, millis(timeout), ptr::null_mut(), 0);
        if set != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(set.into()));
        }
        let mut names = [name.as_ptr()];
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = OwnedPtr::of(topics, rd::rd_kafka_TopicCollection_destroy).ok_or_else(|| failed(Code::Fail))?;
        rd::rd_kafka_DescribeTopics(client, topics.at, options.at, queue.at);
        let answer = rd::rd_kafka_queue_poll(queue.at, millis(timeout.saturating_add(POLL_GRACE)));
        let answer = OwnedPtr::of(answer, rd::rd_kafka_event_destroy).ok_or_else(|| failed(Code::OperationTimedOut))?;
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
        // The one description. It lives as long as the answer.
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
